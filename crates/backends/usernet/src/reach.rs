//! Whom a guest reaches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where the guest finds the first of the host's name servers. The others follow.
const RESOLVER: u8 = 3;

/// As many as a resolver asks (resolv.conf(5)).
const RESOLVERS: usize = 3;

const DNS: u16 = 53;

/// The host's resolver settings.
pub const SETTINGS: &str = "/etc/resolv.conf";

/// Where a flow of the guest's to `to` leads, if anywhere. `settings` reads the host's resolver settings.
pub fn leads(to: SocketAddr, settings: impl FnOnce() -> String) -> Option<SocketAddr> {
    match to.ip() {
        IpAddr::V4(address) => {
            let [.., last] = address.octets();
            let [net @ .., _] = address.octets();
            if net == [192, 0, 0] && last < 8 {
                let number = usize::from(last.checked_sub(RESOLVER)?);
                let asks = to.port() == DNS && number < RESOLVERS;
                return asks.then(|| resolvers(&settings()).get(number).copied())?;
            }
            is_elsewhere(address).then_some(to)
        }
        IpAddr::V6(address) => {
            let [first, ..] = address.segments();
            let is_ours = address.segments()[..4] == [0xfd61, 0x6b6e, 0x7573, 0];
            // Addresses of version 4 in those of version 6 go where these would, and the loopback's,
            // and none at all, are among them.
            let is_four = address.segments()[..5] == [0; 5];
            // Of a link that the guest can't name, or of many.
            let is_link = first & 0xffc0 == 0xfe80 || address.is_multicast();
            let is_loopback = behind(address).is_some_and(|inner| !is_elsewhere(inner));
            (!is_ours && !is_four && !is_link && !is_loopback).then_some(to)
        }
    }
}

/// To which address of version 4 the host, or a router of its, may translate or unwrap one of version 6. None
/// is to be the loopback's (RFC 6052, RFC 3056), and whether each translator sees to that nobody knows here.
fn behind(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // NAT64, by the well-known prefix and by those for use within one network (RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => {
            Some(octets(high, low))
        }
        // Translated, by SIIT (RFC 2765).
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some(octets(high, low)),
        // 6to4, and ISATAP (RFC 5214), whose addresses end with it.
        [0x2002, high, low, ..] => Some(octets(high, low)),
        [.., 0 | 0x200, 0x5efe, high, low] => Some(octets(high, low)),
        _ => None,
    }
}

/// Whether an address is one machine's, and not the host's for itself alone.
fn is_elsewhere(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first != 127 && first < 224
}

/// The host's name servers. Those of one link, whose name is none here, are left out.
fn resolvers(settings: &str) -> Vec<SocketAddr> {
    let servers = settings.lines().filter_map(|line| {
        let address: IpAddr = line.trim().strip_prefix("nameserver")?.trim().parse().ok()?;
        Some(SocketAddr::new(address, DNS))
    });
    let mut found: Vec<_> = servers.take(RESOLVERS).collect();
    if found.is_empty() {
        // What no settings mean.
        found.push((Ipv4Addr::LOCALHOST, DNS).into());
    }
    found
}

/// The guest's resolver settings, by those of the host.
pub fn guest_settings(settings: &str) -> String {
    let servers = resolvers(settings).into_iter().zip(RESOLVER..);
    let servers = servers.map(|(_, last)| format!("nameserver 192.0.0.{last}"));
    let others = settings.lines().map(str::trim).filter(|line| {
        ["search", "domain", "options"]
            .iter()
            .any(|word| line.split_whitespace().next() == Some(word))
    });
    others.map(str::to_owned).chain(servers).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads_to(to: &str) -> Option<String> {
        let settings = || "nameserver 127.0.0.53\nnameserver 10.1.1.1\n".into();
        leads(to.parse().unwrap(), settings).map(|to| to.to_string())
    }

    #[test]
    fn the_hosts_own_loopback_is_nowhere() {
        let own = [
            "127.0.0.1:53",
            "127.255.0.1:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "[::1]:80",
            "[::]:80",
            "[::ffff:127.0.0.1]:80",
            "[::127.0.0.1]:80",
            "[::ffff:10.0.0.1]:80",
            "[::ffff:0:127.0.0.1]:80",
            "[::ffff:0.0.0.0]:80",
            "[64:ff9b::127.0.0.1]:80",
            "[64:ff9b::]:80",
            "[64:ff9b:1:2::127.9.9.9]:80",
            "[2002:7f00:1::]:80",
            "[2002:7f00:1::7f00:1]:80",
            "[2001:db8::5efe:127.0.0.1]:80",
        ];
        assert_eq!(own.map(leads_to), [const { None }; 17]);
    }

    #[test]
    fn nor_is_what_is_no_machines() {
        let nobody = [
            "224.0.0.1:80",
            "255.255.255.255:67",
            "[ff02::1]:80",
            "[fe80::1]:80",
            "192.0.0.1:80",
            "192.0.0.2:80",
            "[fd61:6b6e:7573::1]:80",
        ];
        assert_eq!(nobody.map(leads_to), [const { None }; 7]);
    }

    #[test]
    fn all_others_are_where_they_are() {
        let all = [
            "10.0.2.2:80",
            "192.0.1.2:53",
            "169.254.169.254:80",
            "[2001:db8::1]:443",
            "[64:ff9b::c000:201]:443",
            "[2002:c000:201::1]:443",
        ];
        for to in all {
            assert_eq!(leads_to(to).as_deref(), Some(to));
        }
    }

    #[test]
    fn names_are_the_hosts_to_look_up() {
        assert_eq!(leads_to("192.0.0.3:53").unwrap(), "127.0.0.53:53");
        assert_eq!(leads_to("192.0.0.4:53").unwrap(), "10.1.1.1:53");
        assert_eq!(
            ["192.0.0.5:53", "192.0.0.6:53", "192.0.0.3:80"].map(leads_to),
            [const { None }; 3]
        );
        let settings = "# x\nsearch example.org\nnameserver 10.1.1.1\nnameserver fe80::1%eth0\n\
                        nameserver 10.1.1.2\noptions ndots:2\nsortlist 1.2.3.4\n";
        let ours =
            "search example.org\noptions ndots:2\nnameserver 192.0.0.3\nnameserver 192.0.0.4\n";
        assert_eq!(guest_settings(settings), ours);
        assert_eq!(guest_settings(""), "nameserver 192.0.0.3\n");
    }
}
