//! Which of a name's addresses is tried, and in what order. A node stays on its address for as long
//! as the name stands for it and it works: equal addresses are not changed between.

use std::net::SocketAddr;

/// Most addresses that one probe tries.
const MOST: usize = 8;

/// The addresses to try, the best first. `failed` counts the probes in a row of which every try
/// failed: each begins with another of the rest, so that all have their turn.
pub(super) fn to_try(
    answer: &[SocketAddr],
    current: Option<SocketAddr>,
    failed: usize,
) -> Vec<SocketAddr> {
    let stays = current.filter(|address| answer.contains(address));
    let mut rest: Vec<_> = answer
        .iter()
        .copied()
        .filter(|address| Some(*address) != stays)
        .collect();
    if !rest.is_empty() {
        let turns = failed % rest.len();
        rest.rotate_left(turns);
    }
    stays.into_iter().chain(rest).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    fn order(answer: &[u8], current: Option<u8>, failed: usize) -> Vec<u8> {
        let answer: Vec<_> = answer.iter().map(|last| address(*last)).collect();
        let tries = to_try(&answer, current.map(address), failed);
        tries
            .iter()
            .map(|address| match address.ip() {
                std::net::IpAddr::V4(ip) => ip.octets()[3],
                std::net::IpAddr::V6(_) => 0,
            })
            .collect()
    }

    #[test]
    fn an_address_that_is_still_in_the_answer_stays_the_first() {
        assert_eq!(order(&[1, 2, 3], None, 0), [1, 2, 3]);
        assert_eq!(order(&[2, 3, 1], Some(1), 0), [1, 2, 3]);
        assert_eq!(order(&[3, 1, 2], Some(1), 0), [1, 3, 2]);
    }

    #[test]
    fn one_that_disappeared_is_left() {
        assert_eq!(order(&[2, 3], Some(1), 0), [2, 3]);
        assert_eq!(order(&[], Some(1), 0), [0; 0]);
    }

    #[test]
    fn while_nothing_works_each_gets_its_turn() {
        assert_eq!(order(&[1, 2, 3], Some(1), 1), [1, 3, 2]);
        assert_eq!(order(&[1, 2, 3], Some(1), 2), [1, 2, 3]);
        assert_eq!(order(&[1, 2, 3], None, 4), [2, 3, 1]);
        let many: Vec<u8> = (1..=30).collect();
        assert_eq!(order(&many, Some(30), 8)[..3], [30, 9, 10]);
        assert_eq!(order(&many, Some(30), 8).len(), MOST);
    }
}
