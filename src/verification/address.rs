//! Which addresses are public. IPv4 is public unless listed. IPv6 is private unless listed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// IPv4 networks that are not public: IANA's special-purpose registry (RFC 6890), multicast and reserved addresses.
const NOT_PUBLIC_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),        // this network (RFC 791)
    v4([10, 0, 0, 0], 8),       // private (RFC 1918)
    v4([100, 64, 0, 0], 10),    // shared with a carrier's NAT (RFC 6598)
    v4([127, 0, 0, 0], 8),      // loopback
    v4([168, 63, 129, 16], 32), // Azure's platform service for virtual machines
    v4([169, 254, 0, 0], 16),   // link-local, used for cloud metadata
    v4([172, 16, 0, 0], 12),    // private
    v4([192, 0, 0, 0], 24),     // protocol assignments (RFC 6890)
    v4([192, 0, 2, 0], 24),     // documentation (RFC 5737)
    v4([192, 88, 99, 0], 24),   // relays of 6to4 (RFC 7526)
    v4([192, 168, 0, 0], 16),   // private
    v4([198, 18, 0, 0], 15),    // benchmarks (RFC 2544)
    v4([198, 51, 100, 0], 24),  // documentation
    v4([203, 0, 113, 0], 24),   // documentation
    v4([224, 0, 0, 0], 4),      // multicast
    v4([240, 0, 0, 0], 4),      // reserved, and broadcast
];

/// The IPv6 network of global unicast addresses. Loopback, mapped and compatible IPv4, NAT64 (64:ff9b::/96), unique
/// local, link-local, site-local and multicast addresses are outside of it.
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0], 3);

/// Networks within [`GLOBAL_UNICAST`] that are not public.
const NOT_PUBLIC_V6: [Ipv6Net; 5] = [
    v6([0x2001, 0], 23),     // protocol assignments: Teredo, benchmarks, ORCHID and more
    v6([0x2001, 0xdb8], 32), // documentation (RFC 3849)
    v6([0x2002, 0], 16),     // 6to4, which contains an IPv4 address (RFC 3056)
    v6([0x3ffe, 0], 16),     // 6bone, returned (RFC 3701)
    v6([0x3fff, 0], 20),     // documentation (RFC 9637)
];

const fn v4(network: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_octets(network), length)
}

const fn v6([first, second]: [u16; 2], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), length)
}

/// Whether an address is on the public Internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_UNICAST.contains(&address) && !NOT_PUBLIC_V6.iter().any(|network| network.contains(&address))
        }
    }
}

#[cfg(test)]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::*;

    fn is_public_text(text: &str) -> bool {
        is_public(text.parse().expect("an address"))
    }

    /// The first and the last address of each network, and their public neighbours.
    #[test]
    fn is_public__edges_of_ipv4_networks() {
        for (before, first, last, after) in [
            ("", "0.0.0.0", "0.255.255.255", "1.0.0.0"),
            ("9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"),
            ("100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"),
            ("126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"),
            ("168.63.129.15", "168.63.129.16", "168.63.129.16", "168.63.129.17"),
            ("169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"),
            ("172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"),
            ("191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0"),
            ("192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"),
            ("192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0"),
            ("192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"),
            ("198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"),
            ("198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0"),
            ("203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"),
            ("223.255.255.255", "224.0.0.0", "255.255.255.255", ""),
        ] {
            assert!(!is_public_text(first) && !is_public_text(last), "{first} to {last}");
            for neighbour in [before, after].into_iter().filter(|text| !text.is_empty()) {
                assert!(is_public_text(neighbour), "{neighbour}");
            }
        }
    }

    #[test]
    fn is_public__private_addresses() {
        for text in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "255.255.255.255",
            "239.255.255.250",
            "::",
            "::1",
            "::2",
            "::127.0.0.1", // compatible
            "::8.8.8.8",
            "::ffff:127.0.0.1", // mapped
            "::ffff:7f00:1",
            "::ffff:10.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:127.0.0.1", // translated (RFC 2765)
            "64:ff9b::7f00:1",    // NAT64
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::a00:1", // local NAT64 (RFC 8215)
            "100::1",           // discard
            "2001::1",          // Teredo
            "2001:0:7f00:1::",
            "2001:2::1",  // benchmarks
            "2001:10::1", // ORCHID
            "2001:20::1",
            "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:db8::1",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "2002:7f00:1::1", // 6to4
            "2002:a9fe:a9fe::1",
            "3ffe::1",
            "3fff::1",
            "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
            "4000::1",
            "5f00::1", // segment routing (RFC 9602)
            "1fff:ffff::1",
            "fc00::1",
            "fd00::1",
            "fd00:ec2::254",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "fe80::1",
            "febf:ffff::1",
            "fec0::1", // site-local
            "ff02::1",
            "ff0e::1",
        ] {
            assert!(!is_public_text(text), "{text}");
        }
    }

    #[test]
    fn is_public__public_addresses() {
        for text in ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "2001:200::1", "2a00::1", "3ffd::1"]
        {
            assert!(is_public_text(text), "{text}");
        }
        for text in ["2001:db7::1", "2001:db9::1", "2003::1", "3fff:1000::1", "2000::1"] {
            assert!(is_public_text(text), "{text}");
        }
    }
}
