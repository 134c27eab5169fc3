//! Requests, settings and reports as users write and read them.
//!
//! A [`SpecRequest`] is a spec in a user's words, from wherever they come; resolving it makes the
//! core's types of it. The JSON types are promises to programs: a field, once published, keeps its
//! name and meaning. This crate knows the core and no engine, no backend and no command line, and
//! of the machine only whether a path exists, and what a project's folder holds.
#![forbid(unsafe_code)]

mod bench;
mod changes;
mod daemon;
mod doctor;
mod engine;
mod environment;
mod file;
mod image;
mod images;
mod label;
mod limits;
mod live;
mod nearest;
mod owned;
mod path;
mod place;
mod ports;
mod profile;
mod record;
mod registry;
mod report;
mod request;
mod resolve;
mod signal;
mod story;
mod value;
mod variables;

pub use agentkernel_core::Reference;
pub use bench::{BenchMeasure, BenchRequest};
pub use changes::{
    AppliedReport, ChangeReport, ChangesReport, RefusedReport, SnapshotReport, SnapshotsReport,
};
pub use daemon::{
    DAEMON_VERSION, DaemonReply, DaemonRequest, DaemonStatus, MAX_LINE, NurseryReply,
    NurseryRequest, PoolStatus, PoolsReport, micros,
};
pub use doctor::{BackendReport, DoctorReport};
pub use engine::{EngineTable, read_engine};
pub use environment::{EnvFileError, Environment, read_env_file, read_variable};
pub use file::{FileError, KEYS, read_file};
pub use image::{ImageEntry, ImagesReport};
pub use images::DEFAULT as DEFAULT_IMAGE;
pub use label::{Filter, Label};
pub use limits::Machine;
pub use live::{
    BackgroundReport, CommandsReport, InspectReport, Json, SandboxReport, SandboxesReport,
    StoppedReport, VerdictDetail, VerdictReport,
};
pub use nearest::nearest;
pub use owned::{OwnedError, read_owned, user_file};
pub use path::{BuildRequest, ImageRequest, ProjectRequest, Volume, is_module_name};
pub use place::PlaceRecord;
pub use ports::{PortRecord, PortsReport, Publish, resolve_ports};
pub use record::{SpecRecord, SpecRecordError};
pub use registry::{Mirror, RegistryName, RegistryRequest};
pub use report::{
    Amount, EndingReport, ErrorReport, FailureReport, ImageReport, LimitReport, PhasesReport,
    Report, RouteReport, Run, UsageReport, WallReport,
};
pub use request::{PoolRequest, PoolSize, SpecRequest};
pub use resolve::{Caller, RequestError, Resolved, check_command, command, with_entrypoint};
pub use signal::Signal;
pub use story::{AdoptableEntry, AdoptableReport, StoryError, StoryRecord};
pub use value::{Pids, ValueError, Written};
pub use variables::{PREFIX, VARIABLES, VariableError, read_variables};
