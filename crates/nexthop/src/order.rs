//! Orders that are random, but the same for the same seed.

/// The SplitMix64 generator: enough to spread load, nothing secret hangs on it.
#[derive(Clone, Debug)]
pub(crate) struct Shuffle(u64);

impl Shuffle {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Puts the elements in a random order (Fisher-Yates).
    pub(crate) fn shuffle<T>(&mut self, elements: &mut [T]) {
        for last in (1..elements.len()).rev() {
            elements.swap(last, self.below(last + 1));
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        // The bias of the remainder is far below what matters for a handful of elements.
        usize::try_from(self.next() % bound as u64).expect("is below `bound`")
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_gets_to_the_front() {
        let mut firsts = [0; 4];
        for seed in 0..4_000 {
            let mut elements = [0, 1, 2, 3];
            Shuffle::new(seed).shuffle(&mut elements);
            firsts[elements[0]] += 1;
            elements.sort_unstable();
            assert_eq!(elements, [0, 1, 2, 3]);
        }
        assert!(
            firsts.iter().all(|count| (850..1_150).contains(count)),
            "{firsts:?}"
        );
    }
}
