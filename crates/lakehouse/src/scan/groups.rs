//! Which reader reads which file: files go, largest first, to the reader that has least to read.
//!
//! Within a group files keep their age order, so that a scan by one reader gives rows in the order they came.

/// Spreads files of these sizes over at most `target` groups; gives indices into `sizes`.
pub fn by_size(sizes: &[u64], target: usize) -> Vec<Vec<usize>> {
    let count = target.clamp(1, sizes.len().max(1));
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(sizes[i]), i));
    let mut groups = vec![(0u64, Vec::new()); count];
    for index in order {
        if let Some((total, group)) = groups.iter_mut().min_by_key(|(total, group)| (*total, group.len())) {
            *total += sizes[index];
            group.push(index);
        }
    }
    let mut groups: Vec<Vec<usize>> = groups.into_iter().map(|(_, group)| group).filter(|g| !g.is_empty()).collect();
    groups.iter_mut().for_each(|group| group.sort_unstable());
    groups
}

#[cfg(test)]
mod tests {
    use super::by_size;

    #[test]
    fn large_files_are_spread_and_small_ones_fill_up() {
        assert_eq!(by_size(&[10, 1, 1, 8, 1], 2), vec![vec![0, 4], vec![1, 2, 3]]);
    }

    #[test]
    fn no_group_is_empty() {
        assert_eq!(by_size(&[5], 4), vec![vec![0]]);
        assert!(by_size(&[], 4).is_empty());
        assert_eq!(by_size(&[0, 0, 0], 2).len(), 2);
    }

    #[test]
    fn every_file_is_read_once() {
        let sizes: Vec<u64> = (0..97).map(|i| (i * 7919) % 101).collect();
        let mut all: Vec<usize> = by_size(&sizes, 7).concat();
        all.sort_unstable();
        assert_eq!(all, (0..97).collect::<Vec<_>>());
    }
}
