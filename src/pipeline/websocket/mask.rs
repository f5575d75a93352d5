//! What frames to a service are masked with.

use sha2::{Digest, Sha256};

/// Masks that nobody can foretell who does not know the seed (RFC 6455 §10.3): a hash in counter mode, because asking
/// the system for each frame costs more and can fail.
pub(super) struct Masks {
    seed: [u8; 32],
    count: u64,
    block: [u8; 32],
}

impl Masks {
    /// `seed` is random.
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed, count: 0, block: [0; 32] }
    }

    pub(super) fn draw(&mut self) -> [u8; 4] {
        let at = (self.count % 8) as usize * 4;
        if at == 0 {
            self.block = Sha256::new().chain_update(self.seed).chain_update(self.count.to_be_bytes()).finalize().into();
        }
        self.count += 1;
        [self.block[at], self.block[at + 1], self.block[at + 2], self.block[at + 3]]
    }
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mask_comes_twice_and_another_seed_gives_others() {
        let (mut masks, mut others) = (Masks::new([7; 32]), Masks::new([8; 32]));
        let mut drawn: Vec<[u8; 4]> = (0..100).map(|_| masks.draw()).chain((0..100).map(|_| others.draw())).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 200);
    }
}
