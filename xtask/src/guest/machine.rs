//! One guest: boots a kernel in QEMU with an image made for it, runs one command there, and brings back what it said.
//!
//! The command's output has a serial port to itself, apart from the kernel's console, and ends with a line that carries a nonce and
//! the exit status; files come over a third port as an archive. So nothing the kernel prints can be taken for output, and output that
//! was cut short is noticed. What comes over the ports is read in `serial`.

use super::initramfs::Initramfs;
use super::kernels::Kernel;
use super::modules;
use super::programs;
use super::serial::{Closing, Running, excerpt, since, text};
use super::stuck::Stuck;
use crate::{setup, workspace::Workspace};
use anyhow::{Context, Error, Result, anyhow, ensure};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const INIT: &str = include_str!("init.sh");

/// An oops by a breakpoint in the kernel: it patches its own code, and an emulated CPU still sees the old bytes.
const STRAY_BREAKPOINT: &str = "int3: 0000 [#1]";
/// The same without an end: the CPU traps on the old bytes for ever, and the kernel's watchdogs show it in the handler, unless all CPUs
/// wait for it with interrupts off.
const WATCHED_BREAKPOINT: &str = "exc_int3+0x";

/// The socket of QEMU's monitor.
const MONITOR: &str = "monitor";

/// A guest died of QEMU and not of anything in it. Each switch of a tracepoint may do it, once in some hundreds: QEMU before 8.1
/// translates code on one CPU while another writes it.
#[derive(Debug)]
pub(crate) struct EmulatorFault;

impl fmt::Display for EmulatorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a known fault of QEMU before 8.1, which another run may not meet")
    }
}

/// A file that goes into the guest.
#[derive(Debug, Clone)]
pub(crate) struct GuestFile {
    /// Where it is on this machine.
    pub(crate) host: PathBuf,
    /// Where the guest finds it, absolute.
    pub(crate) guest: String,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// What to boot and what to do there.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    /// The kernel.
    pub(crate) kernel: Kernel,
    /// A statically linked busybox: see [`busybox`].
    pub(crate) busybox: PathBuf,
    /// Files beside busybox, whose commands are all in /bin.
    pub(crate) files: Vec<GuestFile>,
    /// Modules inserted at boot, with what they depend on.
    pub(crate) modules: Vec<String>,
    /// Shell text, run as root in /root with stdin closed.
    pub(crate) command: String,
    /// Guest paths to bring back (what does not exist is left out).
    pub(crate) bring: Vec<String>,
    /// From power-on to power-off.
    pub(crate) timeout: Duration,
    /// From one line of the command's output to the next.
    pub(crate) silence: Duration,
}

/// What came of a guest that ran its command to the end.
#[derive(Debug)]
pub(crate) struct GuestRun {
    /// The command's exit status.
    pub(crate) exit_code: i32,
    /// What the kernel printed while the command ran: warnings and worse.
    pub(crate) console: String,
    /// Wall time from QEMU's start to its end.
    pub(crate) seconds: f64,
    /// Guest time from the kernel's start to the command's.
    pub(crate) boot_seconds: f64,
    /// A tar archive of the files asked for; empty when none were.
    pub(crate) archive: Vec<u8>,
}

impl Guest {
    /// Boots, runs and powers off; `on_line` gets each line of output as it comes.
    ///
    /// # Errors
    /// When a part is missing on this machine, the kernel panics, the time is up or the output is cut short; the last lines of the
    /// console are part of the error.
    pub(crate) fn run(&self, on_line: &mut dyn FnMut(&str)) -> Result<GuestRun> {
        let directory = tempfile::tempdir().context("a temporary directory for the guest")?;
        let nonce = nonce();
        let settings = format!("NONCE={nonce}\nSHELL_WANTED=\nBRING='{}'\n", self.bring.join(" "));
        let mut qemu = self.qemu(directory.path(), &settings)?;
        let started = Instant::now();
        let child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut running = Running::new(child.context("start qemu-system-x86_64")?);
        let outcome = running.follow(started + self.timeout, self.silence, on_line);
        let stuck = match &outcome {
            // What it cannot tell is not its own trouble.
            Err(_) => Stuck::ask(&directory.path().join(MONITOR)).unwrap_or_default(),
            Ok(_) => Stuck::default(),
        };
        let console = text(&directory.path().join("console"));
        let told = outcome.and_then(|output| Closing::read(&output, &nonce));
        let closing = told.map_err(|error| {
            let failure = failure(&self.kernel, &error, &console, &stuck, &running.complaints());
            if never_began(&console, &nonce) { failure.context(EmulatorFault) } else { failure }
        })?;
        let archive = fs::read(directory.path().join("archive")).unwrap_or_default();
        ensure!(
            archive.len() == closing.archive,
            "the guest sent {} bytes of files, {} arrived",
            closing.archive,
            archive.len()
        );
        Ok(GuestRun {
            exit_code: closing.exit_code,
            console: since(&console, &nonce),
            seconds: started.elapsed().as_secs_f64(),
            boot_seconds: closing.booted,
            archive,
        })
    }

    /// Boots into a shell on this terminal; ends when the shell does.
    ///
    /// # Errors
    /// When a part is missing on this machine or QEMU fails.
    pub(crate) fn shell(&self) -> Result<()> {
        let directory = tempfile::tempdir().context("a temporary directory for the guest")?;
        let mut qemu = self.qemu(directory.path(), "SHELL_WANTED=yes\n")?;
        let status = qemu.status().context("start qemu-system-x86_64")?;
        let console = text(&directory.path().join("console"));
        if status.success() {
            Ok(())
        } else {
            Err(failure(&self.kernel, &anyhow!("QEMU ended with {status}"), &console, &Stuck::default(), ""))
        }
    }

    fn qemu(&self, directory: &Path, settings: &str) -> Result<Command> {
        let initramfs = directory.join("initramfs");
        fs::write(&initramfs, self.image(settings)?).with_context(|| format!("write {}", initramfs.display()))?;
        let port = |name: &str| format!("file:{}", directory.join(name).display());
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "2", "-no-reboot"])
            .args(["-nodefaults", "-display", "none", "-monitor"])
            .arg(format!("unix:{},server=on,wait=off", directory.join(MONITOR).display()))
            .args(["-serial", &port("console"), "-serial", "stdio", "-serial", &port("archive")])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&initramfs)
            // A panic or an oops ends the guest at once. The seed of the random numbers does not wait for an idle machine's entropy. The
            // emulated TSC follows this machine's clock; the watchdog would blame it for the time a guest does not get a CPU.
            .args(["-append", "console=ttyS0 loglevel=5 panic=-1 oops=panic random.trust_cpu=on tsc=reliable"]);
        Ok(qemu)
    }

    /// The root file system: the files, busybox with a link for each command that is not among them, the modules, init and its settings.
    fn image(&self, settings: &str) -> Result<Vec<u8>> {
        let mut image = Initramfs::default();
        image.device("/dev/console", (5, 1));
        // The shell of the command, where there is one: busybox's own prefers its commands to whatever else is in the path.
        let shell = programs::with_libraries("dash").unwrap_or_default();
        if let Some(dash) = shell.last() {
            image.symlink("/bin/sh", &dash.guest);
        }
        for file in shell.iter().chain(&self.files) {
            if image.contains(&file.guest) {
                continue;
            }
            let content = fs::read(&file.host).with_context(|| format!("read {}", file.host.display()))?;
            image.file(&file.guest, file.mode, &content);
        }
        let busybox = fs::read(&self.busybox).with_context(|| format!("read {}", self.busybox.display()))?;
        image.file("/bin/busybox", 0o755, &busybox);
        for command in commands_of(&self.busybox)? {
            let places = ["/bin", "/sbin", "/usr/bin", "/usr/sbin"].map(|place| format!("{place}/{command}"));
            if !places.iter().any(|path| image.contains(path)) {
                image.symlink(&places[0], "/bin/busybox");
            }
        }
        for (number, module) in modules::in_order(&self.kernel, &self.modules)?.into_iter().enumerate() {
            image.file(&format!("/guest/modules/{number:03}-{}.ko", module.name), 0o644, &module.object);
        }
        image.file("/etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n");
        image.file("/etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
        image.file("/etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 guest\n");
        image.symlink("/var/run", "/run");
        image.file("/guest/settings", 0o644, settings.as_bytes());
        image.file("/guest/command", 0o644, self.command.as_bytes());
        image.file("/init", 0o755, INIT.as_bytes());
        Ok(image.finish())
    }
}

/// What went wrong in a guest, with the part of its console that tells most; an [`EmulatorFault`] if it was one.
fn failure(kernel: &Kernel, error: &Error, console: &str, stuck: &Stuck, complaints: &str) -> Error {
    let what = if console.contains("Kernel panic") { "panicked" } else { "did not finish" };
    let places = (*stuck != Stuck::default()).then(|| stuck.told());
    let told = excerpt(console).chain(complaints.lines()).chain(places.as_deref()).collect::<Vec<_>>().join("\n  ");
    let failure = anyhow!("the guest with kernel {} {what}: {error:#}; its console:\n  {told}", kernel.release);
    let endless = console.contains(WATCHED_BREAKPOINT) || stuck.in_a_breakpoint(console);
    if console.contains(STRAY_BREAKPOINT) || endless { failure.context(EmulatorFault) } else { failure }
}

/// Whether a guest's kernel began, and neither came as far as its first program nor said why not: one that cannot go on panics.
fn never_began(console: &str, nonce: &str) -> bool {
    !console.trim().is_empty() && !console.contains(nonce) && !console.contains("Kernel panic")
}

/// A statically linked busybox of this machine.
///
/// # Errors
/// When there is none.
pub(crate) fn busybox(workspace: &Workspace) -> Result<PathBuf> {
    setup::static_busybox(workspace)
        .context("no statically linked busybox here: `cargo xtask setup` takes it out of the package busybox-static")
}

fn commands_of(busybox: &Path) -> Result<Vec<String>> {
    let output = Command::new(busybox).arg("--list").output().with_context(|| format!("run {}", busybox.display()))?;
    let list = String::from_utf8_lossy(&output.stdout);
    Ok(list.lines().filter(|name| *name != "busybox" && !name.contains('/')).map(str::to_owned).collect())
}

fn nonce() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("guest-{:x}-{:x}", std::process::id(), now.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_stops_while_it_starts_is_told_from_one_that_cannot_start() {
        assert!(never_began("[1.2] acpi PNP0A03:00: fail to add MMCONFIG information\n", "n1"));
        assert!(!never_began("", "n1"));
        assert!(!never_began("[1.0] Kernel panic - not syncing: VFS\n", "n1"));
        assert!(!never_began("[2.0] ready\nn1\n", "n1"));
    }

    #[test]
    fn a_panic_is_told_from_a_fault_of_the_emulator() {
        let kernel = Kernel {
            label: "6.12".into(),
            suite: "trixie".into(),
            release: "6.12.1".into(),
            image: PathBuf::new(),
            modules: PathBuf::new(),
        };
        let fail = |console: &str| failure(&kernel, &anyhow!("its output has no end"), console, &Stuck::default(), "");
        let panic = fail("[1.0] Kernel panic - not syncing: VFS\n");
        assert!(!panic.is::<EmulatorFault>());
        assert!(format!("{panic:#}").starts_with("the guest with kernel 6.12.1 panicked: its output has no end"));
        let stray =
            fail("[1.0] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n[1.1] Kernel panic - not syncing: Fatal exception\n");
        assert!(stray.is::<EmulatorFault>());
        assert!(format!("{stray:#}").contains("  [1.0] Oops: int3"), "{stray:#}");
    }
}
