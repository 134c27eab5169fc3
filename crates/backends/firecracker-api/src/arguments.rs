//! The arguments of a machine's kernel.

/// Each with what it does. What saves time says how much, counted in the instructions of an emulated
/// machine; of the others none saves as much as could be measured there (FACTS.md).
pub const BOOT_ARGUMENTS: &str = concat!(
    // What the kernel and process 1 say at last is to be read by whoever finds it dead.
    "console=ttyS0 loglevel=3 quiet",
    // A machine that has panicked ends, and so does Firecracker.
    " reboot=k panic=-1",
    // There is no PCI bus, and the kernel need not look for one.
    " pci=off",
    // Nor a keyboard or a mouse.
    " i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd",
    // One serial port.
    " 8250.nr_uarts=1",
    // The host's processor has random numbers, or the host has.
    " random.trust_cpu=on",
    // Without the kernel's tests of its own ciphers: 38 % less until the agent answers (FACTS.md).
    " cryptomgr.notests",
    // The clock is the hypervisor's.
    " tsc=reliable",
    // Process 1, by the name that it knows itself by, and that it is that of a machine.
    " rdinit=/.agentkernel/agent -- machine",
);
