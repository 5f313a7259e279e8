use hickory_resolver::proto::rr::rdata::MX;

use crate::failure::ResolveFailure;
use crate::host::HostName;
use crate::order::Shuffle;

/// The mail exchangers of a domain in the order in which to try them, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchangers {
    domain: HostName,
    ordered: Vec<Exchanger>,
    is_implicit: bool,
}

/// One mail exchanger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanger {
    /// The lower, the better.
    pub preference: u16,
    pub host: HostName,
}

impl Exchangers {
    /// RFC 5321 §5.1: without MX records the domain is its own exchanger, of preference 0.
    pub(crate) fn implicit(domain: HostName) -> Self {
        let own = Exchanger {
            preference: 0,
            host: domain.clone(),
        };
        Self {
            domain,
            ordered: vec![own],
            is_implicit: true,
        }
    }

    /// Orders the MX records of `domain`. They are what a stranger wrote: targets that are no host
    /// names are left out, and so is what is over the limit.
    pub(crate) fn from_records<'r>(
        domain: HostName,
        records: impl IntoIterator<Item = &'r MX>,
        seed: u64,
    ) -> Result<Self, ResolveFailure> {
        let mut ordered: Vec<Exchanger> = Vec::new();
        let mut null_mx = false;
        for record in records {
            if record.exchange.is_root() {
                null_mx = true;
                continue;
            }
            let Some(host) = HostName::from_dns(&record.exchange) else {
                continue;
            };
            let preference = record.preference;
            match ordered.iter_mut().find(|known| known.host == host) {
                Some(known) => known.preference = known.preference.min(preference),
                None => ordered.push(Exchanger { preference, host }),
            }
        }
        if ordered.is_empty() {
            // RFC 7505 §3: a null MX is the only record; beside others it means nothing.
            return Err(if null_mx {
                ResolveFailure::NullMx { domain }
            } else {
                ResolveFailure::NoAddress { domain }
            });
        }
        // The order of the answer must not show through, it varies with every answer.
        ordered.sort_by(|a, b| a.host.cmp(&b.host));
        Shuffle::new(seed).shuffle(&mut ordered);
        // RFC 5321 §5.1: by preference, at random within equal ones. The sort is stable.
        ordered.sort_by_key(|exchanger| exchanger.preference);
        ordered.truncate(MAX_EXCHANGERS);
        Ok(Self {
            domain,
            ordered,
            is_implicit: false,
        })
    }

    /// Leaves out the exchangers that are not better than `is_local`: mail only ever goes towards
    /// lower preferences, or two exchangers of a domain could hand it to and fro (RFC 5321 §5.1).
    pub(crate) fn better_than_local(
        mut self,
        is_local: impl Fn(&Exchanger) -> bool,
    ) -> Result<Self, ResolveFailure> {
        let local = self.ordered.iter().filter(|exchanger| is_local(exchanger));
        if let Some(limit) = local.map(|exchanger| exchanger.preference).min() {
            self.ordered
                .retain(|exchanger| exchanger.preference < limit);
        }
        if self.ordered.is_empty() {
            return Err(ResolveFailure::Loop {
                domain: self.domain,
            });
        }
        Ok(self)
    }

    pub fn domain(&self) -> &HostName {
        &self.domain
    }

    /// Whether the domain has no MX record and is its own exchanger.
    pub fn is_implicit(&self) -> bool {
        self.is_implicit
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Exchanger> {
        self.ordered.iter()
    }
}

/// Nobody needs more; a zone could have thousands.
const MAX_EXCHANGERS: usize = 20;

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn host(name: &str) -> HostName {
        HostName::parse(name).unwrap()
    }

    /// A name from its labels, whatever octets they hold.
    fn name_of(text: &str) -> Name {
        let labels = text.split('.').filter(|label| !label.is_empty());
        Name::from_labels(labels.map(str::as_bytes)).unwrap()
    }

    fn ordered(records: &[(u16, &str)], seed: u64) -> Result<Vec<String>, ResolveFailure> {
        let records: Vec<MX> = records
            .iter()
            .map(|(preference, name)| MX::new(*preference, name_of(name)))
            .collect();
        let exchangers = Exchangers::from_records(host("example.org"), &records, seed)?;
        Ok(exchangers
            .iter()
            .map(|exchanger| exchanger.host.to_string())
            .collect())
    }

    #[test]
    fn sorted_by_preference() {
        let records = [(30, "c.example."), (10, "a.example."), (20, "B.example.")];
        for seed in 0..20 {
            assert_eq!(
                ordered(&records, seed).unwrap(),
                ["a.example", "b.example", "c.example"]
            );
        }
    }

    #[test]
    fn equal_preferences_are_shuffled_by_seed_alone() {
        let records = [(10, "a.example."), (10, "b.example."), (20, "z.example.")];
        let turned = [(20, "z.example."), (10, "b.example."), (10, "a.example.")];
        let mut first = Vec::new();
        for seed in 0..20 {
            let order = ordered(&records, seed).unwrap();
            assert_eq!(order, ordered(&turned, seed).unwrap());
            assert_eq!(order[2], "z.example");
            first.push(order[0].clone());
        }
        assert!(first.contains(&"a.example".to_owned()) && first.contains(&"b.example".to_owned()));
    }

    #[test]
    fn null_mx_counts_only_alone() {
        let alone = ordered(&[(0, ".")], 1);
        assert!(
            matches!(alone, Err(ResolveFailure::NullMx { .. })),
            "{alone:?}"
        );
        assert_eq!(
            ordered(&[(0, "."), (5, "a.example.")], 1).unwrap(),
            ["a.example"]
        );
    }

    #[test]
    fn hostile_records_are_left_out() {
        let long = format!("{}.example.", "a".repeat(63));
        let records = [
            (0, "a b.example."),
            (0, long.as_str()),
            (2, "a.example."),
            (1, "a.example."),
        ];
        assert_eq!(
            ordered(&records, 1).unwrap(),
            [long.trim_end_matches('.'), "a.example"]
        );
        let only = ordered(&[(0, "a\r\nb.example.")], 1);
        assert!(
            matches!(only, Err(ResolveFailure::NoAddress { .. })),
            "{only:?}"
        );
    }

    #[test]
    fn the_worst_of_too_many_are_cut_off() {
        let names: Vec<String> = (0..100).map(|n| format!("mx{n}.example.")).collect();
        let records: Vec<(u16, &str)> = (0..).zip(names.iter().map(String::as_str)).collect();
        let kept = ordered(&records, 1).unwrap();
        assert_eq!(kept.len(), MAX_EXCHANGERS);
        assert_eq!(kept[19], "mx19.example");
    }

    #[test]
    fn only_exchangers_better_than_ourselves_are_left() {
        let records: Vec<MX> = [(10, "a."), (20, "us."), (20, "b."), (30, "c.")]
            .map(|(preference, name)| MX::new(preference, Name::from_ascii(name).unwrap()))
            .into();
        let exchangers = Exchangers::from_records(host("example.org"), &records, 1).unwrap();
        let left = exchangers
            .clone()
            .better_than_local(|e| e.host == host("us"))
            .unwrap();
        assert_eq!(
            left.iter().map(|e| e.host.clone()).collect::<Vec<_>>(),
            [host("a")]
        );
        let looping = exchangers.better_than_local(|e| e.host == host("a"));
        assert!(
            matches!(looping, Err(ResolveFailure::Loop { .. })),
            "{looping:?}"
        );
    }
}
