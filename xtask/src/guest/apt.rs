//! The distribution's archive as a source of kernels: which mirror the machine uses, and an apt of our own in a
//! directory of its own, so that fetching from other suites leaves the machine's lists, cache and pins untouched.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Keyrings that hold the archive's signing keys of every suite, newest name first.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];

/// Names of the packages that a kernel's image, modules and list of built-in modules come in: up to 6.x the first alone.
/// Everything else that it depends on is for booting from disks.
const KERNEL_PACKAGES: [&str; 4] = ["linux-image-", "linux-binary-", "linux-modules-", "linux-base-"];

/// Where this machine gets Debian's packages from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    /// The archive itself, as apt has it configured.
    archive: String,
    /// The security archive: where the kernels of the stable suites are newest.
    security: Option<String>,
}

impl Mirror {
    /// Asks apt, which reads every format its sources come in and knows from the signed release files whose they are.
    ///
    /// # Errors
    /// When there is no apt, or no Debian archive among its sources.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let output = Command::new("apt-get")
            .args(["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"])
            .output()
            .context("no apt-get here: the kernels of the matrix are Debian's packages")?;
        Self::parse(&String::from_utf8_lossy(&output.stdout)).context(
            "no Debian archive with fetched lists among apt's sources: on Debian, `apt-get update` brings the lists",
        )
    }

    /// Reads `origin|label|uri` lines; the first archive of each kind wins.
    fn parse(targets: &str) -> Option<Self> {
        let uri = |wanted: &str| {
            targets.lines().find_map(|line| {
                let (source, uri) = line.rsplit_once('|')?;
                (source == wanted).then(|| uri.to_owned())
            })
        };
        Some(Self { archive: uri("Debian|Debian")?, security: uri("Debian|Debian-Security") })
    }

    /// The lines of a sources file for one suite and, unless it is the unstable one, its security updates.
    fn sources(&self, suite: &str, keyring: Option<&str>) -> String {
        let signed = keyring.map(|path| format!(" signed-by={path}")).unwrap_or_default();
        let line = |uri: &str, suite: &str| format!("deb [arch=amd64 target=Packages{signed}] {uri} {suite} main\n");
        let mut lines = line(&self.archive, suite);
        if suite != "sid"
            && let Some(security) = &self.security
        {
            lines += &line(security, &format!("{suite}-security"));
        }
        lines
    }
}

/// A package of one suite, in the newest version there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    depends: Vec<String>,
}

impl Package {
    /// Reads the first stanza that `apt-cache show` prints.
    fn parse(stanza: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut lines = stanza.lines().take_while(|line| !line.is_empty());
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let depends = field("Depends").unwrap_or_default().split([',', '|']);
        Some(Self {
            name: field("Package")?.to_owned(),
            version: field("Version")?.to_owned(),
            depends: depends.filter_map(|one| one.split_whitespace().next().map(str::to_owned)).collect(),
        })
    }
}

/// apt with its own sources, lists, cache and (empty) record of what is installed.
#[derive(Debug)]
pub(crate) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Prepares `directory` for `suite` of `mirror` and fetches the suite's package lists.
    ///
    /// # Errors
    /// When the directory cannot be written or the lists cannot be fetched or do not carry a known signature.
    pub(crate) fn open(directory: &Path, mirror: &Mirror, suite: &str) -> Result<Self> {
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part)).with_context(|| format!("create {}", directory.display()))?;
        }
        let keyring = KEYRINGS.into_iter().find(|path| Path::new(path).exists());
        fs::write(directory.join("sources.list"), mirror.sources(suite, keyring))?;
        fs::write(directory.join("status"), "")?;
        fs::write(directory.join("apt.conf"), configuration(directory))?;
        let apt = Self { directory: directory.to_owned() };
        apt.run("apt-get", &["update"]).with_context(|| format!("fetch the package lists of {suite}"))?;
        Ok(apt)
    }

    /// Downloads `meta`'s kernel: every package with a part of its image or modules. Returns the files.
    ///
    /// # Errors
    /// When the suite has no such package or a download fails or does not match the signed lists.
    pub(crate) fn download_kernel(&self, meta: &str) -> Result<Vec<PathBuf>> {
        let mut waiting = vec![meta.to_owned()];
        let mut seen = BTreeSet::new();
        let mut files = Vec::new();
        while let Some(name) = waiting.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let shown = self.run("apt-cache", &["show", "--no-all-versions", &name])?;
            let package = Package::parse(&shown).with_context(|| format!("apt-cache says nothing about {name}"))?;
            waiting.extend(package.depends.iter().filter(|name| is_part_of_a_kernel(name)).cloned());
            if package.name != meta {
                files.push(self.download(&package)?);
            }
        }
        ensure!(!files.is_empty(), "{meta} depends on no kernel");
        Ok(files)
    }

    /// Downloads the package of that name in the newest version of the suite. Returns the file.
    ///
    /// # Errors
    /// When the suite has no such package or the download fails or does not match the signed lists.
    pub(crate) fn download_package(&self, name: &str) -> Result<PathBuf> {
        let shown = self.run("apt-cache", &["show", "--no-all-versions", name])?;
        self.download(&Package::parse(&shown).with_context(|| format!("apt-cache says nothing about {name}"))?)
    }

    fn download(&self, package: &Package) -> Result<PathBuf> {
        let directory = self.directory.join(&package.name);
        fs::create_dir_all(&directory)?;
        let version = format!("{}={}", package.name, package.version);
        self.run_in(&directory, "apt-get", &["download", &version])?;
        let mut files = fs::read_dir(&directory)?.filter_map(|entry| Some(entry.ok()?.path()));
        let file = files.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
        file.with_context(|| format!("apt-get download {version} brought no package"))
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.run_in(&self.directory, program, arguments)
    }

    fn run_in(&self, directory: &Path, program: &str, arguments: &[&str]) -> Result<String> {
        let output = Command::new(program)
            .current_dir(directory)
            .env("LC_ALL", "C")
            .arg("-c")
            .arg(self.directory.join("apt.conf"))
            .arg("-qq")
            .args(arguments)
            .output()
            .with_context(|| format!("run {program}"))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            // The first names the cause; those after it say that it failed.
            let first = errors.lines().find(|line| line.starts_with("E: ")).or_else(|| errors.lines().next());
            bail!("{program} {}: {}", arguments.join(" "), first.unwrap_or("no message"));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn is_part_of_a_kernel(name: &str) -> bool {
    KERNEL_PACKAGES.iter().any(|prefix| name.starts_with(prefix))
}

/// apt reads `-c` last, so this wins over the machine's configuration and leaves its proxies and methods as they are.
/// The downloads run as whoever calls (apt's own user may not enter this directory); the hooks of the machine's
/// configuration are for its own lists.
fn configuration(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "root";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::Etc::SourceList "{directory}/sources.list";
Dir::Etc::SourceParts "-";
Dir::Etc::Preferences "-";
Dir::Etc::PreferencesParts "-";
Dir::State "{directory}/state";
Dir::State::Status "{directory}/status";
Dir::Cache "{directory}/cache";
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "Vendor|vendor stable|https://packages.example.com/linux/\n\
                           Debian|Debian|http://mirror.example.com/debian/\n\
                           Debian|Debian|http://mirror.example.com/debian/\n\
                           Debian|Debian-Security|http://mirror.example.com/debian-security/\n";

    #[test]
    fn the_mirror_is_the_one_whose_release_files_are_debians() {
        let mirror = Mirror::parse(TARGETS).unwrap();
        assert_eq!(mirror.archive, "http://mirror.example.com/debian/");
        assert_eq!(mirror.security.as_deref(), Some("http://mirror.example.com/debian-security/"));
        assert_eq!(Mirror::parse("Ubuntu|Ubuntu|http://mirror.example.com/ubuntu/\n"), None);
        assert_eq!(Mirror::parse(""), None);
    }

    #[test]
    fn only_suites_with_security_updates_ask_the_security_archive() {
        let mirror = Mirror::parse(TARGETS).unwrap();
        assert_eq!(
            mirror.sources("bookworm", Some("/k.gpg")),
            "deb [arch=amd64 target=Packages signed-by=/k.gpg] http://mirror.example.com/debian/ bookworm main\n\
             deb [arch=amd64 target=Packages signed-by=/k.gpg] http://mirror.example.com/debian-security/ bookworm-security main\n"
        );
        assert_eq!(
            mirror.sources("sid", None),
            "deb [arch=amd64 target=Packages] http://mirror.example.com/debian/ sid main\n"
        );
    }

    #[test]
    fn a_stanza_names_what_its_package_depends_on() {
        let stanza = "Package: linux-image-7.2.13+deb14-cloud-amd64\nSource: linux\nVersion: 7.2.13-1\n\
            Depends: dracut | initramfs-tools (>= 0.120), linux-binary-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)\n\n\
            Package: older\nVersion: 1\n";
        let package = Package::parse(stanza).unwrap();
        assert_eq!(package.version, "7.2.13-1");
        assert_eq!(package.depends, ["dracut", "initramfs-tools", "linux-binary-7.2.13+deb14-cloud-amd64"]);
        assert_eq!(package.depends.iter().filter(|name| is_part_of_a_kernel(name)).count(), 1);
        assert_eq!(Package::parse(""), None);
    }
}
