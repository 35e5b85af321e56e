//! Counts of access log lines that are left out because their network has exhausted `LIMIT_LOG`.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde_json::json;

use super::access;
use crate::shares::Network;

/// Networks that are counted separately. Lines of further networks are counted together.
const MAX_NETWORKS: usize = 1024;

/// The lines left out since the last report, by network.
#[derive(Debug, Default)]
pub struct LeftOut(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    networks: HashMap<Network, u64>,
    others: u64,
}

impl LeftOut {
    /// Counts a line instead of writing it.
    pub fn count(&self, network: Network) {
        let mut counts = self.0.lock();
        let Counts { networks, others } = &mut *counts;
        let room = networks.len() < MAX_NETWORKS;
        match networks.get_mut(&network) {
            Some(count) => *count += 1,
            None if room => drop(networks.insert(network, 1)),
            None => *others += 1,
        }
    }

    /// Reports the counts in the access log, one line per network and one for all further networks, and resets them.
    pub fn write(&self) {
        let counts = std::mem::take(&mut *self.0.lock());
        for (network, lines) in counts.networks {
            access(json!({ "client": network.to_string(), "linesLeftOut": lines }));
        }
        if counts.others > 0 {
            access(json!({ "client": "others", "linesLeftOut": counts.others }));
        }
    }
}

#[cfg(test)]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::*;

    #[test]
    fn left_out__more_networks_than_max() {
        let left_out = LeftOut::default();
        for round in 0..3 {
            for number in 0..2 * MAX_NETWORKS as u32 {
                left_out.count(Network::of(Some(std::net::Ipv4Addr::from(number).into())));
            }
            let counts = left_out.0.lock();
            assert_eq!(counts.networks.len(), MAX_NETWORKS);
            assert!(counts.networks.values().all(|count| *count == round + 1));
            assert_eq!(counts.others, (round + 1) * MAX_NETWORKS as u64);
        }
    }
}
