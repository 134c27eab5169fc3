//! The products, as data.

use agentkernel_core::{About, Class, Yardstick};

use crate::yardsticks;

/// An engine that speaks Docker's Engine API.
#[derive(Debug)]
pub struct Product {
    /// The backend's name.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What `agentkernel doctor` says to do if there is none.
    pub install: &'static str,
    /// The command that serves the API on demand, if the engine has no daemon.
    pub service: Option<&'static str>,
    /// Whether it can keep the directory of devices from being written to.
    pub closes_devices: bool,
    /// Whether an image's link in place of the directory of devices stays one, which not every runtime
    /// can be trusted with.
    pub keeps_device_links: bool,
    /// Whether what it is to cover in a container is told by a security option, not by a list.
    pub covers_by_option: bool,
    /// Whether containers have a control group namespace where control groups are of version 1.
    pub parts_old_groups: bool,
    /// Whether an ordinary user's own engine can show that user's files as those of another one.
    pub keeps_users: bool,
    /// Whether a process of root's engine takes what comes to a port, and so leads from an IPv6 address
    /// into containers that have none. An ordinary user's engine has no other way.
    pub proxies: bool,
    pub about: About,
    pub yardsticks: &'static [Yardstick],
}

pub static DOCKER: Product = Product {
    name: "docker",
    title: "Docker",
    install: "install Docker and start dockerd, or set DOCKER_HOST to where it is",
    service: None,
    closes_devices: true,
    keeps_device_links: false,
    covers_by_option: false,
    parts_old_groups: true,
    keeps_users: false,
    proxies: true,
    about: About {
        class: Class::Container,
        isolation: "containers of dockerd: namespaces, control groups, and our system call filter; \
                    one kernel",
        choose: "For images of your own where Docker is installed anyway: what runs in them costs \
                 no more than on native, and a pool hides what a container's start takes.",
    },
    yardsticks: yardsticks::DOCKER,
};

pub static PODMAN: Product = Product {
    name: "podman",
    title: "Podman",
    install: "install Podman, or set CONTAINER_HOST to the socket of its service",
    service: Some("podman"),
    closes_devices: false,
    keeps_device_links: true,
    covers_by_option: true,
    parts_old_groups: false,
    keeps_users: true,
    proxies: false,
    about: About {
        class: Class::Container,
        isolation: "containers without a daemon, an ordinary user's in a user namespace of their \
                    own: namespaces, control groups, and our system call filter; one kernel",
        choose: "The same without a daemon that is root: an ordinary user's containers have no \
                 rights that the user has not.",
    },
    yardsticks: yardsticks::PODMAN,
};
