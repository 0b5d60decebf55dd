//! What the types of index have in common: the header, flat vectors, the direct map.

use super::{
    MAX_D,
    names::{self, FLAT, FLAT_IP, FLAT_L2, FourCc, metric_number},
};
use crate::{
    error::Result,
    metric::Metric,
    persist::{sink::Sink, source::Source},
};
use std::io::{Read, Write};

/// What faiss writes where other figures once were.
const DUMMY: i64 = 1 << 20;

/// The fields every index begins with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Header {
    pub d: usize,
    pub ntotal: usize,
    pub trained: bool,
    pub metric: Metric,
}

pub(super) fn read_fourcc<R: Read>(source: &mut Source<R>) -> Result<FourCc> {
    let mut letters = [0_u8; 4];
    source.fill("the type of an index", &mut letters)?;
    Ok(FourCc(letters))
}

pub(super) fn write_fourcc<W: Write>(sink: &mut Sink<W>, letters: FourCc) -> Result<()> {
    sink.bytes(&letters.0)
}

impl Header {
    pub fn read<R: Read>(source: &mut Source<R>) -> Result<Self> {
        let d: i32 = source.number("the header")?;
        let d = usize::try_from(d)
            .ok()
            .filter(|d| (1..=MAX_D).contains(d))
            .ok_or_else(|| source.malformed(format!("d = {d}, not within 1 to {MAX_D}")))?;
        let ntotal: i64 = source.number("the header")?;
        let ntotal =
            usize::try_from(ntotal).map_err(|_| source.malformed(format!("ntotal = {ntotal}")))?;
        // Two figures without a meaning.
        let _: [i64; 2] = [source.number("the header")?, source.number("the header")?];
        let trained: u8 = source.number("the header")?;
        if trained > 1 {
            return Err(source.malformed(format!("is_trained = {trained}, neither 0 nor 1")));
        }
        let number: i32 = source.number("the header")?;
        let (mut metric, argued) = names::metric(number)
            .ok_or_else(|| source.malformed(format!("metric {number} does not exist")))?;
        if argued {
            let argument: f32 = source.number("the argument of the metric")?;
            if let Metric::Lp(p) = &mut metric {
                *p = argument;
            }
            let illegal = |_| source.malformed(format!("metric Lp with p = {argument}"));
            metric = metric.check().map_err(illegal)?;
        }
        Ok(Self {
            d,
            ntotal,
            trained: trained == 1,
            metric,
        })
    }

    pub fn write<W: Write>(&self, sink: &mut Sink<W>) -> Result<()> {
        sink.number(self.d as i32)?;
        sink.number(self.ntotal as i64)?;
        sink.numbers(&[DUMMY; 2])?;
        sink.number(u8::from(self.trained))?;
        let (number, argument, _) = metric_number(self.metric)?;
        sink.number(number)?;
        argument.map_or(Ok(()), |argument| sink.number(argument))
    }

    /// The header of a flat index whose letters are `letters`; the vectors' count is read too.
    pub fn read_flat<R: Read>(source: &mut Source<R>, letters: FourCc) -> Result<Self> {
        let header = Self::read(source)?;
        let fits = match letters {
            FLAT_L2 => header.metric == Metric::L2,
            FLAT_IP => header.metric == Metric::InnerProduct,
            _ => true,
        };
        if !fits {
            let metric = header.metric;
            return Err(source.malformed(format!("{letters} with metric {metric}")));
        }
        let values = source.count("vector components", size_of::<f32>())?;
        if header.ntotal.checked_mul(header.d) != Some(values) {
            let Self { ntotal, d, .. } = header;
            return Err(source.malformed(format!(
                "{values} vector components for ntotal = {ntotal} vectors of d = {d}"
            )));
        }
        Ok(header)
    }
}

/// Whether these letters begin a flat index.
pub(super) fn is_flat(letters: FourCc) -> bool {
    [FLAT_L2, FLAT_IP, FLAT].contains(&letters)
}

/// Passes over a direct map: ids are in the lists.
pub(super) fn skip_direct_map<R: Read>(source: &mut Source<R>) -> Result<()> {
    let kind: u8 = source.number("the direct map")?;
    if kind > 2 {
        return Err(source.malformed(format!("direct map of type {kind}, not 0, 1 or 2")));
    }
    let entries = source.count("entries of a direct map", size_of::<i64>())?;
    if entries > 0 && kind != 1 {
        return Err(source.malformed(format!(
            "an array of {entries} entries in a direct map of type {kind}"
        )));
    }
    source.skip("the direct map", 8 * entries as u64)?;
    if kind == 2 {
        let pairs = source.count("pairs of a direct map", 2 * size_of::<i64>())?;
        source.skip("the direct map", 16 * pairs as u64)?;
    }
    Ok(())
}
