#!/bin/busybox sh
# First process of a guest: sets up what a system with systemd and pure cgroup v2 would have, runs /guest/command, and hands back what it said.
# Serial ports: ttyS0 the console, ttyS1 the command's output and the closing line, ttyS2 an archive of the files asked for.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb

give_up() {
    echo "guest init: $1" >/dev/console
    sleep 1
    poweroff -f
}
on() { mount -t "$1" "$1" "$2" || give_up "mount $1 on $2"; }

mkdir -p /proc /sys /dev /run /tmp /root
on devtmpfs /dev
on proc /proc
on sysfs /sys
on tmpfs /run
on tmpfs /tmp
chmod 1777 /tmp
mkdir -p /dev/pts /dev/shm
on devpts /dev/pts
on tmpfs /dev/shm
on cgroup2 /sys/fs/cgroup
on bpf /sys/fs/bpf
on tracefs /sys/kernel/tracing
for controller in cpu memory io pids; do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || give_up "no cgroup controller $controller"
done
hostname guest
ip link set lo up
for module in /guest/modules/*.ko; do
    [ ! -e "$module" ] || insmod "$module" || give_up "insmod $module"
done

. /guest/settings
if [ -n "$SHELL_WANTED" ]; then
    setsid /bin/sh -c 'exec /bin/sh -l </dev/ttyS1 >/dev/ttyS1 2>&1'
    poweroff -f
fi

exec 3<>/dev/ttyS1 4<>/dev/ttyS2
stty raw -echo <&3
stty raw -echo <&4
# Where a CPU is that traps on a breakpoint for ever: an emulator's fault, see machine.rs.
grep -wE 'asm_exc_int3|exc_int3|(smp_text_)?poke_int3_handler' /proc/kallsyms >/dev/console
read -r booted _ </proc/uptime
echo "$NONCE" >/dev/console
cd /root
# Through a pipe: what runs sees no terminal. What it left running must not keep the pipe open.
mkfifo /run/output
cat </run/output >&3 &
copier=$!
/bin/sh /guest/command </dev/null >/run/output 2>&1 3>&- 4>&-
status=$?
for process in /proc/[0-9]*; do
    process=${process#/proc/}
    [ "$process" = 1 ] || [ "$process" = "$copier" ] || kill -9 "$process" 2>/dev/null
done
wait "$copier"
cd /
size=0
set --
for path in $BRING; do
    [ ! -e "$path" ] || set -- "$@" "${path#/}"
done
if [ $# != 0 ]; then
    tar -cf /run/brought.tar "$@"
    size=$(stat -c %s /run/brought.tar)
    cat /run/brought.tar >&4
fi
printf '\036%s exit=%s archive=%s booted=%s\n' "$NONCE" "$status" "$size" "$booted" >&3
# Closing a serial port waits until the last byte is out.
exec 3>&- 4>&-
poweroff -f
