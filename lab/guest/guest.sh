# Second stage in the lab's VM, as process 1 with the host's programs: the rest of a usable system, then the command,
# whose exit code goes out through the control port. Parameters come in /run/lab/parameters.
. /run/lab/parameters

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup 2>/dev/null
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t tracefs tracing /sys/kernel/tracing 2>/dev/null
mkdir -p /run/results
mount -t 9p -o trans=virtio,version=9p2000.L,rw,cache=none,msize=262144 results /run/results
mkdir -p /lib/modules
mount --bind "$lab_modules" /lib/modules
# Nothing but the one file differs: same exports, so other modules load on it.
printf %s "$lab_replacements" | while read -r built && read -r place; do mount --bind "$built" "$place"; done
busybox ip link set lo up
hostname lab
ln -sf /proc/self/fd /dev/fd
for stream in 0:stdin 1:stdout 2:stderr; do ln -sf "/proc/self/fd/${stream%:*}" "/dev/${stream#*:}"; done

export HOME=/root LANG=C.UTF-8 TERM="${lab_term:-dumb}" LAB_RESULTS=/run/results
export PATH="$lab_bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
cd "$lab_cwd" 2>/dev/null || cd /

end() { sync; echo b >/proc/sysrq-trigger; sleep 60; }

# Its failure ends the VM: what comes next would test nothing.
[ -z "$lab_driver" ] || . "/run/lab/$lab_driver.sh" 2>/run/driver ||
    { echo "lab: $lab_driver.sh failed: $(tail -n 1 /run/driver)" >/dev/console; end; }

if [ -n "$lab_shell" ]; then
    setsid -c sh -c "$lab_shell" </dev/hvc0 >/dev/hvc0 2>&1
    end
fi

for port in /sys/class/virtio-ports/*; do
    case $(cat "$port/name") in
        control) control=/dev/${port##*/} ;;
        stdout) out=/dev/${port##*/} ;;
        stderr) err=/dev/${port##*/} ;;
    esac
done
exec 3>"$control"
# The ports take one opener each; a pipe lets the command open /dev/stdout and /dev/stderr as often as it likes.
mkfifo /run/stdout /run/stderr
cat /run/stdout >"$out" &
outer=$!
cat /run/stderr >"$err" &
errer=$!
exec 4>/run/stdout 5>/run/stderr
echo ready >&3
setsid sh /run/lab/command </dev/null >&4 2>&5 3>&- 4>&- 5>&-
code=$?
exec 4>&- 5>&-
# Whatever the command left running may still hold the pipes: what it printed so far is out after a moment.
( sleep 3; kill $outer $errer ) 2>/dev/null &
wait $outer $errer
echo "exit $code" >&3
exec 3>&-
end
