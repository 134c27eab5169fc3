#!/bin/sh
# What the guest does, as its process 1: makes the machine an ordinary one, goes through the parts
# that the lane asks for, and powers off. All it says goes to a virtual console; the kernel has the
# serial line, which is slow, for itself.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
ln -sn /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
hostname guest
# As systemd does: what open files take is memory, and that is what is limited.
echo 9223372036854775807 >/proc/sys/fs/file-max
exec >/dev/hvc0 2>&1

ORDINARY=23456
group=/sys/fs/cgroup
failed=0

built_at=$(cat /lane/built-at)
mkdir -p "$(dirname "$built_at")" /opt/bin
cp /lane/agentkernel /opt/bin/
cp /lane/agentkernel "$built_at"
# Where cargo has put it may be a home, which an ordinary user can't look into.
(cd "$(dirname "$built_at")" && while [ "$PWD" != / ]; do chmod a+x . && cd ..; done)
export PATH=/opt/bin:$PATH
export TESTKIT_PROBE=/lane/probe TESTKIT_PATIENCE=4
mkdir -p /home/user
chown $ORDINARY:$ORDINARY /home/user

# Runs a command as an ordinary user, and in the group `cgroup` if that is set.
as_user() {
    HOME=/home/user sh -c '
        [ -z "$cgroup" ] || echo 0 >"$cgroup/cgroup.procs" || exit
        cd && exec setpriv --reuid '$ORDINARY' --regid '$ORDINARY' --clear-groups -- "$@"' sh "$@"
}

part() { grep -qw "$1" /lane/parts; }

filter=$(cat /lane/filter)

# Runs a suite as the words after its label have it, and puts the label before its closing line.
suite() {
    label=$1
    shift
    echo "--- $label"
    # shellcheck disable=SC2086 # a filter is words
    { "$@" $filter; echo "status $?"; } 2>&1 |
        sed -u "s/^\([0-9]* passed, \)/$label: \1/; s/^status 0$//" | tee /run/suite
    grep -q '^status ' /run/suite && failed=1
}

# A check that is none of a suite's: its name and the pattern that must be found, with the exit
# status and the output of a command before it.
check() {
    name=$1
    if grep -Eq -- "$2" /run/got; then
        echo "passed $name"
        passed=$((passed + 1))
    else
        echo "FAILED $name: no '$2' in:"
        sed 's/^/    /' /run/got
        failures=$((failures + 1))
        failed=1
    fi
}
passed=0 failures=0

# Keeps the output and the exit status of a command for checks.
try() {
    "$@" >/run/got 2>&1 </dev/null
    echo "exit $?" >>/run/got
}

# A group of the ordinary user's own, as systemd would give one: the processes are in a leaf.
delegate() {
    echo '+cpu +memory +pids' >$group/cgroup.subtree_control
    mkdir -p $group/delegated/leaf
    echo '+cpu +memory +pids' >$group/delegated/cgroup.subtree_control
    for dir in $group/delegated $group/delegated/leaf; do
        chown $ORDINARY:$ORDINARY $dir $dir/cgroup.procs $dir/cgroup.threads \
            $dir/cgroup.subtree_control
    done
}

# Keeps a virtual machine, which nobody runs. With the first one that there is, and with the last one gone,
# the kernel rewrites its own code, the scheduler's above all: first with breakpoints, then with the rest.
# QEMU 7.2 may go on with a breakpoint that is no longer there, for ever, on whichever processor met
# it then, which each micro-VM would give it two occasions for.
hold_micro_vm() {
    perl -e '
        $| = 1;
        open(my $kvm, "+<", "/dev/kvm") or die "/dev/kvm: $!\n";
        my $fd = ioctl($kvm, 0xae01, 0) or die "no machine: $!\n";
        open(my $machine, "+<&=", int $fd) or die "no file: $!\n";
        ioctl($machine, 0xae41, 0) or die "no processor: $!\n";
        print "held\n";
        sleep' >/run/held &
    until grep -q held /run/held; do
        kill -0 $! || { failed=1; return; }
        sleep 0.1
    done
}

# Tells what everybody waits for when a suite has said nothing for long. The lane ends the guest after 180
# seconds without a word.
tell_hangs() {
    while sleep 30; do
        now=$(date +%s)
        said=$(stat -c %Y /run/suite 2>/dev/null || echo "$now")
        [ $((now - said)) -gt 100 ] || continue
        echo "hang: nothing was said for $((now - said)) s"
        ps -eo pid,ppid,pgid,stat,uid,wchan:24,cgroup:40,args | grep -v '\]$'
        for stack in /proc/[0-9]*/stack; do
            grep -q . "$stack" 2>/dev/null || continue
            echo "$stack $(tr '\0' ' ' <"${stack%stack}cmdline")"
            head -n 6 "$stack"
        done
        return
    done
}

echo "--- $(uname -sr), $(nproc) processors, clock by $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
cat /proc/self/cgroup
if [ -e /lane/shell ]; then
    setsid -c bash -i <>/dev/hvc0 >&0 2>&1
    echo o >/proc/sysrq-trigger
    sleep 60
fi


echo "--- doctor and a run, as root and as an ordinary user"
agentkernel doctor
as_user /opt/bin/agentkernel doctor
for caller in env as_user; do
    try $caller /opt/bin/agentkernel run --verbose -- echo hello
    cat /run/got
    check "hello-by-$caller" '^hello$'
done

tell_hangs &

if part conformance; then
    suite conformance /lane/conformance
fi

if part delegated; then
    echo "--- a delegated group"
    delegate
    export cgroup=$group/delegated/leaf
    try as_user agentkernel doctor
    cat /run/got
    try as_user agentkernel run --verbose --memory 64m --pids 16 --cpus 0.5 -- echo hello
    cat /run/got
    check delegated-run '^exit 0$'
    for limit in cpus memory pids; do
        check "delegated-$limit" "$limit.*cgroup v2"
    done
    try as_user agentkernel run --memory 64m -- sh -c 'head -c 256m /dev/zero | tail -c 256m | wc -c'
    check delegated-out-of-memory-status '^exit 137$'
    check delegated-out-of-memory-message 'out of memory'
    # What a group has no part in was shown before.
    filter=${filter:-limit memory left ends report walls}
    suite conformance-delegated as_user /lane/conformance
    filter=$(cat /lane/filter)
    unset cgroup
fi

if part escape; then
    suite escape /lane/escape
fi

if part switches; then
    for switch in user.max_user_namespaces kernel.unprivileged_userns_clone; do
        file=/proc/sys/$(echo $switch | tr . /)
        if [ ! -e "$file" ]; then
            echo "skipped $switch: this kernel has no such switch"
            continue
        fi
        echo "--- $switch=0"
        before=$(cat "$file")
        echo 0 >"$file"
        try as_user agentkernel run -- echo hello
        cat /run/got
        check "$switch-status" '^exit 125$'
        check "$switch-name" "$switch is 0"
        check "$switch-hint" "hint: .*sysctl -w $switch=[1-9]"
        try as_user agentkernel doctor
        cat /run/got
        check "$switch-doctor" "$switch is 0"
        check "$switch-doctor-hint" "sysctl -w $switch=[1-9]"
        echo "$before" >"$file"
    done
fi

# The guest of releases, which has floating-point numbers: all of what is promised, and here of each kind
# something, since each micro-VM is an emulated machine's.
if part hyperlight; then
    echo "--- micro-VMs"
    # What is driven by the daemon's program is nothing to the parts before.
    cp /lane/agentkerneld /opt/bin/
    cp /lane/agentkerneld "${built_at}d"
    chmod 666 /dev/kvm
    hold_micro_vm
    try agentkernel doctor
    check hyperlight-ready '^hyperlight: ready'
    try agentkernel run -B hyperlight /lane/hello.wat
    cat /run/got
    check hyperlight-hello '^hello$'
    try as_user agentkernel run -B hyperlight --invoke root /lane/calculator.wat 2
    cat /run/got
    check hyperlight-fractions '^1\.414'
    if [ -e /lane/quickjs.sh ]; then
        cp -r /lane/cache /run/cache
        try sh -c 'echo "[1, 2.5]" | BACKEND=hyperlight XDG_CACHE_HOME=/run/cache /lane/quickjs.sh \
            --std -e "console.log(JSON.parse(std.in.readAsString()).map(n => n * n))"'
        cat /run/got
        check hyperlight-javascript '^1,6\.25$'
        try env BACKEND=hyperlight XDG_CACHE_HOME=/run/cache /lane/quickjs.sh -e 'throw Error("no")'
        check hyperlight-javascript-fails '^exit 1$'
    fi
    filter=${filter:-hyperlight/root/cold/invoke hyperlight/root/cold/module-traps hyperlight/root/pool/module-runs}
    suite conformance-hyperlight /lane/conformance
    filter=$(cat /lane/filter)
fi

# Whole machines, with the kernel that this one has; each takes seconds here, so some of what is promised.
if part firecracker && [ -e /lane/firecracker ]; then
    echo "--- Firecracker"
    mkdir -p /machine
    mount -t ext4 -o ro /dev/vdc /machine
    export FIRECRACKER_BIN=/lane/firecracker FIRECRACKER_KERNEL=/machine TESTKIT_ARCHIVE=/lane/test.tar
    cp /lane/agentkerneld /opt/bin/
    cp /lane/agentkerneld "${built_at}d"
    chmod 666 /dev/kvm
    part hyperlight || hold_micro_vm
    try agentkernel doctor
    check firecracker-ready '^firecracker: ready'
    filter=${filter:-firecracker/}
    suite conformance-firecracker /lane/conformance --workers=2
    filter=$(cat /lane/filter)
fi

echo "checks: $passed passed, $failures failed, 0 skipped"
[ $failed = 0 ] && echo "lane: nothing failed" || echo "lane: something failed"
# Without a moment's wait the last words might not leave the machine.
sleep 1
echo o >/proc/sysrq-trigger
sleep 60
