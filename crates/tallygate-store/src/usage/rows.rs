//! Reading the records of a block, some at a time: so many that their columns stay in the processor's nearest caches.

use super::BlockError;
use super::column::Column;
use super::record::NUMBERS;

/// Records that are read at once.
pub(super) const CHUNK: usize = 512;

/// The columns of some records. The numbers of one record stand at the same place in each.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) times: [u64; CHUNK],
    pub(super) sets: [u64; CHUNK],
    pub(super) kinds: [u64; CHUNK],
    pub(super) numbers: [[u64; CHUNK]; NUMBERS],
}

impl Chunk {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            times: [0; CHUNK],
            sets: [0; CHUNK],
            kinds: [0; CHUNK],
            numbers: [[0; CHUNK]; NUMBERS],
        })
    }

    /// The numbers of the record at `place`.
    #[inline]
    pub(super) fn row(&self, place: usize) -> [u64; NUMBERS] {
        std::array::from_fn(|number| self.numbers[number][place])
    }
}

/// The records of a block that were not read yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) left: usize,
    /// The time of the record before.
    pub(super) time: u64,
    pub(super) times: Column<'a>,
    pub(super) sets: Column<'a>,
    pub(super) kinds: Column<'a>,
    pub(super) numbers: [Column<'a>; NUMBERS],
    /// How many label sets and kinds there are.
    pub(super) known: (u64, u64),
}

impl Rows<'_> {
    /// Reads the next records and gives how many they are: none at the end. Label sets and kinds are among those that the
    /// block has.
    pub(super) fn next(&mut self, chunk: &mut Chunk) -> Result<usize, BlockError> {
        let count = self.left.min(CHUNK);
        if count == 0 {
            return self.end();
        }
        self.fill(count, chunk).ok_or(BlockError::Damaged)?;
        self.left -= count;
        for step in &mut chunk.times[..count] {
            self.time = self.time.saturating_add(*step);
            *step = self.time;
        }
        let is_known = |places: &[u64], below| places.iter().all(|place| *place < below);
        let (sets, kinds) = (&chunk.sets[..count], &chunk.kinds[..count]);
        match is_known(sets, self.known.0) && is_known(kinds, self.known.1) {
            true => Ok(count),
            false => Err(BlockError::Damaged),
        }
    }

    fn fill(&mut self, count: usize, chunk: &mut Chunk) -> Option<()> {
        self.times.fill(&mut chunk.times[..count])?;
        self.sets.fill(&mut chunk.sets[..count])?;
        self.kinds.fill(&mut chunk.kinds[..count])?;
        let mut numbers = self.numbers.iter_mut().zip(&mut chunk.numbers);
        numbers.try_for_each(|(column, out)| column.fill(&mut out[..count]))
    }

    /// Every column ends with the last record.
    fn end(&self) -> Result<usize, BlockError> {
        let mut columns = [&self.times, &self.sets, &self.kinds]
            .into_iter()
            .chain(&self.numbers);
        match columns.all(Column::is_read) {
            true => Ok(0),
            false => Err(BlockError::Damaged),
        }
    }
}
