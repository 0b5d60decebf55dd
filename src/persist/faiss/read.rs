//! From the bytes of a file to the parts of an index.

use super::{
    header::{Header, is_flat, read_fourcc, skip_direct_map},
    load::{Content, Ids, read_lists},
    names::{
        FULL, FourCc, ID_MAP, ID_MAP_2, IVF_FLAT, IVF_SQ, IVF_SQ_OLD, LISTS, NO_LISTS, SPARSE,
    },
};
use crate::{
    backend::IvfBackend,
    error::{Error, Result},
    lists::InvertedLists,
    metric::Metric,
    persist::{element::Element, source::Source},
};
use std::io::Read;

/// What a flat index is made of.
#[derive(Debug)]
pub(crate) struct FlatParts<E: IvfBackend> {
    pub d: usize,
    pub metric: Metric,
    pub lists: InvertedLists<E>,
}

/// What an inverted file is made of.
#[derive(Debug)]
pub(crate) struct IvfParts<E: IvfBackend> {
    pub d: usize,
    pub metric: Metric,
    pub nlist: usize,
    pub nprobe: usize,
    /// Centroids `[nlist, d]` and lists, once trained.
    pub trained: Option<(Vec<f32>, InvertedLists<E>)>,
}

/// Reads a flat index, bare or below a map of ids.
pub(crate) fn read_flat<E: IvfBackend, R: Read>(
    source: &mut Source<R>,
    device: &E::Device,
) -> Result<FlatParts<E>> {
    let letters = read_fourcc(source)?;
    if is_flat(letters) {
        let header = Header::read_flat(source, letters)?;
        return flat_rows(source, header, Ids::Counted, device);
    }
    if ![ID_MAP, ID_MAP_2].contains(&letters) {
        let remedy = if [IVF_FLAT, IVF_SQ, IVF_SQ_OLD].contains(&letters) {
            "read an inverted file by IndexIvfFlat::read_faiss()"
        } else {
            "IndexFlat reads IxF2, IxFI, IxFl, and IxMp or IxM2 over one of them"
        };
        return Err(source.unsupported(&format!("type {letters}"), remedy));
    }
    let outer = Header::read(source)?;
    let inner = read_fourcc(source)?;
    if !is_flat(inner) {
        return Err(source.unsupported(
            &format!("type {letters} over {inner}"),
            "ids are read over flat indexes; inverted files keep ids of their own",
        ));
    }
    let header = Header::read_flat(source, inner)?;
    if (outer.d, outer.ntotal, outer.metric) != (header.d, header.ntotal, header.metric) {
        return Err(source.malformed(format!(
            "ids for {} vectors of d = {} ({}), over {} of d = {} ({})",
            outer.ntotal, outer.d, outer.metric, header.ntotal, header.d, header.metric
        )));
    }
    flat_rows(source, header, Ids::AfterCount, device)
}

fn flat_rows<E: IvfBackend, R: Read>(
    source: &mut Source<R>,
    header: Header,
    ids: Ids,
    device: &E::Device,
) -> Result<FlatParts<E>> {
    let Header {
        d, ntotal, metric, ..
    } = header;
    let content = Content {
        d,
        code: Element::F32,
        nlist: 1,
        sizes: &[(0, ntotal)],
        ids,
        residual_of: None,
        nan: metric.accepts_nan(),
    };
    let lists = read_lists(source, &content, device)?;
    Ok(FlatParts { d, metric, lists })
}

/// Reads an inverted file of f32, f16 or bf16 vectors.
pub(crate) fn read_ivf<E: IvfBackend, R: Read>(
    source: &mut Source<R>,
    device: &E::Device,
) -> Result<IvfParts<E>> {
    let letters = read_fourcc(source)?;
    if ![IVF_FLAT, IVF_SQ, IVF_SQ_OLD].contains(&letters) {
        let remedy = if is_flat(letters) {
            "read a flat index by IndexFlat::read_faiss()"
        } else {
            "IndexIvfFlat reads IwFl, and IwSq or IwSQ of type fp16 or bf16"
        };
        return Err(source.unsupported(&format!("type {letters}"), remedy));
    }
    let (header, nlist, nprobe, centroids) = ivf_header(source)?;
    let (code, residual) = if letters == IVF_FLAT {
        (Element::F32, false)
    } else {
        scalar_quantizer(source, letters, header.d)?
    };
    let sizes = list_sizes(source, &header, nlist, header.d * code.bytes())?;
    let rows = sizes
        .iter()
        .fold(0, |sum: usize, (_, n)| sum.saturating_add(*n));
    if rows > header.ntotal {
        let ntotal = header.ntotal;
        return Err(source.malformed(format!("{rows} vectors in lists, but ntotal = {ntotal}")));
    }
    source.expect("vectors", rows as u64, (header.d * code.bytes() + 8) as u64)?;
    let parts = |trained| IvfParts {
        d: header.d,
        metric: header.metric,
        nlist,
        nprobe,
        trained,
    };
    let Some(centroids) = centroids else {
        return if rows == 0 {
            Ok(parts(None))
        } else {
            Err(source.malformed(format!("{rows} vectors in an untrained index")))
        };
    };
    let content = Content {
        d: header.d,
        code,
        nlist,
        sizes: &sizes,
        ids: Ids::After,
        residual_of: residual.then_some(&centroids[..]),
        nan: false,
    };
    let lists = read_lists(source, &content, device)?;
    Ok(parts(Some((centroids, lists))))
}

/// The fields of every inverted file: header, nlist, nprobe, and the centroids of a trained one.
fn ivf_header<R: Read>(source: &mut Source<R>) -> Result<(Header, usize, usize, Option<Vec<f32>>)> {
    let header = Header::read(source)?;
    if !header.metric.is_for_ivf() {
        return Err(source.unsupported(
            &format!("an inverted file with metric {}", header.metric),
            "l2, ip, l1 and linf are supported",
        ));
    }
    let (nlist, nprobe): (u64, u64) = (source.number("nlist")?, source.number("nprobe")?);
    if nlist == 0 || nlist >= u64::from(u32::MAX) {
        return Err(source.malformed(format!("nlist = {nlist}, not within 1 to 2^32 - 2")));
    }
    if nprobe == 0 {
        return Err(source.malformed("nprobe = 0"));
    }
    let nlist = nlist as usize;
    let nprobe = usize::try_from(nprobe).map_or(nlist, |nprobe| nprobe.min(nlist));
    let letters = read_fourcc(source)?;
    if !is_flat(letters) {
        return Err(source.unsupported(
            &format!("a coarse quantizer of type {letters}"),
            "flat ones (IxF2, IxFI, IxFl) are",
        ));
    }
    let quantizer = Header::read_flat(source, letters)?;
    if (quantizer.d, quantizer.metric) != (header.d, header.metric) {
        return Err(source.unsupported(
            &format!(
                "a coarse quantizer of d = {} ({}) in an index of d = {} ({})",
                quantizer.d, quantizer.metric, header.d, header.metric
            ),
            "both must compare the same vectors by the same metric",
        ));
    }
    let mut centroids: Vec<f32> = Vec::new();
    source.append("centroids", quantizer.ntotal * header.d, &mut centroids)?;
    if let Some(at) = centroids.iter().position(|x| !x.is_finite()) {
        return Err(Error::NonFinite {
            what: "centroids of the file",
            row: at / header.d,
            count: centroids
                .chunks_exact(header.d)
                .filter(|row| row.iter().any(|x| !x.is_finite()))
                .count(),
        });
    }
    // Centroids given by hand train an index, though faiss says so only after its `train`.
    let centroids = match quantizer.ntotal {
        n if n == nlist => Some(centroids),
        0 if !header.trained => None,
        n => {
            return Err(source.malformed(format!(
                "{n} centroids for nlist = {nlist} lists of an index with is_trained = {}",
                u8::from(header.trained)
            )));
        }
    };
    skip_direct_map(source)?;
    Ok((header, nlist, nprobe, centroids))
}

/// Names of faiss's scalar quantizers, by number.
const QUANTIZERS: [&str; 9] = [
    "8bit",
    "4bit",
    "8bit_uniform",
    "4bit_uniform",
    "fp16",
    "8bit_direct",
    "6bit",
    "bf16",
    "8bit_direct_signed",
];

/// The code of a scalar quantizer, and whether it holds differences from the centroid.
fn scalar_quantizer<R: Read>(
    source: &mut Source<R>,
    letters: FourCc,
    d: usize,
) -> Result<(Element, bool)> {
    let kind: i32 = source.number("the scalar quantizer")?;
    // How ranges were found, which these codes have not.
    let (_, _): (i32, f32) = (
        source.number("the scalar quantizer")?,
        source.number("the scalar quantizer")?,
    );
    let (own_d, size): (u64, u64) = (
        source.number("the scalar quantizer")?,
        source.number("the scalar quantizer")?,
    );
    let trained = source.count("ranges of the scalar quantizer", size_of::<f32>())?;
    source.skip("the scalar quantizer", 4 * trained as u64)?;
    let again: u64 = source.number("the code size")?;
    let residual = if letters == IVF_SQ_OLD {
        1
    } else {
        source.number("by_residual")?
    };
    let code = match kind {
        4 => Element::F16,
        7 => Element::Bf16,
        _ => {
            let name = usize::try_from(kind).ok().and_then(|k| QUANTIZERS.get(k));
            let name = name.map_or_else(|| kind.to_string(), |name| (*name).to_owned());
            return Err(source.unsupported(
                &format!("type {letters} with quantizer {name}"),
                "fp16 and bf16 are supported",
            ));
        }
    };
    let expected = (d * code.bytes()) as u64;
    if own_d != d as u64 || size != expected || again != expected || residual > 1_u8 {
        return Err(source.malformed(format!(
            "a scalar quantizer of d = {own_d}, code sizes {size} and {again}, by_residual = \
             {residual} in an index of d = {d}, whose codes have {expected} bytes"
        )));
    }
    Ok((code, residual == 1))
}

/// The lists that hold rows, with their numbers, by rising number.
fn list_sizes<R: Read>(
    source: &mut Source<R>,
    header: &Header,
    nlist: usize,
    code_size: usize,
) -> Result<Vec<(usize, usize)>> {
    let letters = read_fourcc(source)?;
    if letters == NO_LISTS && header.ntotal == 0 {
        return Ok(Vec::new());
    }
    if letters != LISTS {
        return Err(source.unsupported(
            &format!("inverted lists of type \"{}\"", letters.0.escape_ascii()),
            "lists within the file (ilar) are; let faiss load the whole index and write it again",
        ));
    }
    let (lists, size): (u64, u64) = (source.number("lists")?, source.number("lists")?);
    if lists != nlist as u64 || size != code_size as u64 {
        return Err(source.malformed(format!(
            "{lists} lists of codes of {size} bytes, expected {nlist} of {code_size} bytes"
        )));
    }
    let kind = read_fourcc(source)?;
    let count = source.count("list sizes", size_of::<u64>())?;
    let mut raw: Vec<u64> = Vec::new();
    let sizes: Vec<(u64, u64)> = match kind {
        FULL if count == nlist => {
            source.append("list sizes", count, &mut raw)?;
            raw.into_iter()
                .enumerate()
                .map(|(l, n)| (l as u64, n))
                .collect()
        }
        SPARSE if count % 2 == 0 => {
            source.append("list sizes", count, &mut raw)?;
            let (pairs, _) = raw.as_chunks::<2>();
            pairs.iter().map(|&[l, n]| (l, n)).collect()
        }
        _ => {
            return Err(source.malformed(format!(
                "{count} figures for the sizes of {nlist} lists, stored as \"{}\"",
                kind.0.escape_ascii()
            )));
        }
    };
    let mut sizes: Vec<(usize, usize)> = sizes
        .into_iter()
        .filter(|&(_, n)| n > 0)
        .map(|(l, n)| {
            let list = usize::try_from(l).ok().filter(|&l| l < nlist);
            list.zip(usize::try_from(n).ok()).ok_or_else(|| {
                source.malformed(format!("list {l} of {n} rows, there are {nlist} lists"))
            })
        })
        .collect::<Result<_>>()?;
    sizes.sort_unstable();
    if let Some(pair) = sizes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(source.malformed(format!("list {} has two sizes", pair[0].0)));
    }
    Ok(sizes)
}
