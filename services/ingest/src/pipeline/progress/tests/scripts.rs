//! Interleavings that lost or doubled records once, or would: short scripts in the steps of the property.
//!
//! `0+gbc`: a good record, a bad one, and a control record come to partition 0. `A<0`: worker A reads all of partition 0,
//! after it has opened if it must. `A.`: its next step: close, then commit, then settle. `A0`: all of that for partition 0.
//! `A!`: it crashes. `undo`: another engine rolls the table back by one snapshot. `foreign`: another engine appends.
//! `skip0`: a new start leaves out one record of partition 0. `new`: a partition.

use super::*;

/// What happens, and how often a worker must find out that the table is not where its session is.
const SCRIPTS: &[(&str, usize)] = &[
    // Another worker commits another partition between two commits of a worker, which then reads that one.
    ("0+gg 1+gg A0 B1 0+g A0 1+g A1", 1),
    ("0+gg 1+gg A0 0+g A<0 A. B1 A. A. 1+g A1", 1),
    ("0+gb 1+gb A0 A1 B1 1+gb B1 0+gb A0 1+gb A1", 1),
    ("0+gg 1+gg A0 B1 1+g B1 0+g B0 1+g A1", 1),
    // A rollback between two commits of a worker takes back a partition that the second does not carry.
    ("0+gg A0 1+gg A1 undo 0+g A0 1+g A1", 1),
    ("0+gg A0 1+gb A1 0+g A<0 A. undo A. A. 1+g A1", 1),
    ("0+gg 1+gg A0 A1 1+gg A1 undo 0+g A0 1+gg A1", 1),
    // A rollback, or another worker, takes the range that a worker has in closed files.
    ("0+gg A0 0+gg A0 0+gg A<0 A. undo A. A. A0", 1),
    ("0+gg A<0 A. 0+g B0 A. A0", 1),
    ("0+gg A0 0+gg A<0 B0 0+g A. A. A0", 0),
    ("0+gg A0 0+gg A<0 A. 0+g B0 A. A0", 1),
    // Dead letters are pending when another worker commits: it must not overwrite them.
    ("0+gb 1+gb A<0 A. B<1 B. A. B. A! B1", 1),
    ("0+gb 1+gg A<0 A. B<1 B. A. A! B. B1", 1),
    ("0+gb A0 0+gb 1+gb A<0 A. B<1 B. A. A! B. B1", 1),
    ("0+gb A<0 A. A. A! 0+b B0", 0),
    ("0+gb A<0 A. A. A! foreign 0+b B0", 0),
    // Dead letters are read again after a rollback.
    ("0+gb A0 0+gb A0 undo A! A0", 0),
    ("0+gb A0 0+gb A<0 A. A. undo A. A0", 0),
    ("0+gb 1+gb A0 A1 undo B0 B1 A1", 0),
    // Others commit, a new start is made, a partition comes, while a worker has files in hand.
    ("0+gg A0 0+gg A<0 A. foreign A. A. 0+gb A0", 0),
    ("0+ggg A0 0+ggg A<0 skip0 A. A. A0", 1),
    ("0+gg 1+ggg A0 0+g A<0 A. skip1 A. A. 1+g A1", 1),
    ("0+gg A0 new 2+gb B2 0+gb A0 A2 B2", 1),
    ("0+cc A0 0+cg A0 B0 0+c B0 A0", 0),
];

impl Case {
    async fn word(&mut self, word: &str, seen: &mut Seen) {
        let digit = |character: char| usize::try_from(character.to_digit(10).unwrap()).unwrap();
        let characters: Vec<char> = word.chars().collect();
        match (word, characters.as_slice()) {
            ("undo", _) => assert!(self.lake.roll_back(Which::Rows, 0).await, "there is nothing to undo"),
            ("undo-dead", _) => {
                assert!(self.lake.roll_back(Which::DeadLetters, 0).await, "there is nothing to undo");
                self.dead_letters_rolled_back = true;
            }
            ("foreign", _) => assert!(self.lake.foreign(Which::Rows).await),
            ("new", _) => self.log.push(Vec::new()),
            (_, ['s', 'k', 'i', 'p', partition]) => assert!(self.rebase(digit(*partition), 1).await),
            (_, [partition, '+', kinds @ ..]) => self.log[digit(*partition)].extend(kinds.iter().map(kind)),
            (_, [name, '!']) => self.workers[worker(*name)].crash(),
            (_, [name, '.']) => self.next(worker(*name), &[], 1, seen).await,
            (_, [name, '<', partition]) => self.next(worker(*name), &all_of(digit(*partition)), 1, seen).await,
            (_, [name, partition]) => self.next(worker(*name), &all_of(digit(*partition)), 4, seen).await,
            _ => panic!("no such word: {word}"),
        }
    }

    /// So many steps of a worker that has opened the table.
    async fn next(&mut self, worker: usize, take: &[usize], steps: usize, seen: &mut Seen) {
        let opens = usize::from(self.workers[worker].progress.is_none());
        self.workers[worker].turn(&self.lake, &self.log, take, opens + steps, seen).await.unwrap();
    }
}

fn worker(name: char) -> usize {
    match name {
        'A' => 0,
        'B' => 1,
        _ => panic!("no such worker: {name}"),
    }
}

fn kind(letter: &char) -> Kind {
    match letter {
        'g' => Kind::Good,
        'b' => Kind::Bad,
        'c' => Kind::Control,
        _ => panic!("no such record: {letter}"),
    }
}

fn all_of(partition: usize) -> Vec<usize> {
    let mut take = vec![0; partition];
    take.push(usize::MAX);
    take
}

#[tokio::test]
async fn these_interleavings_lose_and_double_nothing() {
    for (script, expected) in SCRIPTS {
        eprintln!("{script}");
        let (mut case, mut seen) = (Case::new(&mut StdRng::seed_from_u64(0)).await, Seen::default());
        for word in script.split(' ') {
            case.word(word, &mut seen).await;
            case.check(false).await.unwrap();
        }
        assert_eq!(seen.fenced + seen.reloads, *expected, "{script}: {seen:?}");
        case.finish(&mut seen).await.unwrap();
    }
}

/// The dead letter that is read again after the table's rollback is in the dead-letter table, until that is rolled back.
#[tokio::test]
async fn a_dead_letter_that_was_not_written_again_is_missed_when_its_table_is_rolled_back() {
    let (mut case, mut seen) = (Case::new(&mut StdRng::seed_from_u64(0)).await, Seen::default());
    for word in "0+b A0 0+gb A0 undo A! A0 undo-dead".split(' ') {
        case.word(word, &mut seen).await;
        case.check(false).await.unwrap();
    }
    assert!(matches!(case.finish(&mut seen).await, Err(IngestError::DeadLettersBehind { .. })));
}
