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
