//! The same in a micro-VM, which the command's process makes for the module.

use agentkernel_core::{About, Capabilities, Capability, Class};
use agentkernel_native::{Kind, Native};

use crate::{Code, Form, yardsticks};

/// The backend for a program without an engine.
pub static HYPERLIGHT: Native =
    Native::for_modules(&KIND, &Code { form: HYPERLIGHT_CODE, driver: None }, None);

/// The code of modules for [`HYPERLIGHT`].
pub const HYPERLIGHT_CODE: Form = Form { folder: "hyperlight", is: "wasmtime 48.0.8, 1" };

/// The code of modules for the guest that is for tests.
pub const PLAIN_CODE: Form = Form { folder: "hyperlight-plain", ..HYPERLIGHT_CODE };

/// A module there has no files, so that there is nothing to mount and nothing that could change.
pub(crate) static KIND: Kind = Kind {
    name: "hyperlight",
    about: About {
        class: Class::Vm,
        isolation: "WebAssembly by wasmtime in a micro-VM by hyperlight, which has no kernel, in a \
                    process behind Linux namespaces, seccomp, Landlock and control groups",
        choose: "For modules that need no files: a hole in the engine leads into an empty virtual \
                 machine, and a hole in that into a sandbox.",
    },
    yardsticks: yardsticks::YARDSTICKS,
    capabilities: Capabilities::new(&[
        Capability::NetworkNone,
        Capability::RootReadOnly,
        Capability::ImageModule,
        Capability::LimitCpus,
        Capability::LimitMemory,
        Capability::LimitPids,
        Capability::Terminal,
        Capability::User,
        Capability::Live,
    ]),
};
