//! The data sets that `dynvis data` knows, as a table: where they are published, how large they are, by which
//! checksums they are known, what their licence is and where pipelines look for them.
//!
//! Sizes and checksums are those that the publishers give, or torchvision and TensorFlow Datasets, which hold every
//! download against them:
//!
//! - MNIST, Fashion-MNIST, EMNIST: MD5 of torchvision (`datasets/mnist.py`), SHA-256 and bytes of TensorFlow Datasets
//!   (`url_checksums/`)
//! - CIFAR-10 and -100: MD5 of A. Krizhevsky's page, SHA-256 and bytes of TensorFlow Datasets
//! - Imagenette: MD5 of torchvision (`datasets/imagenette.py`), bytes of fastai (`fastai/data/checks.txt`)
//! - Tiny ImageNet: MD5 and bytes of Zenodo's record 10720917; Stanford publishes none
//! - CIFAR-10-C and -100-C: MD5 of Zenodo's records, SHA-256 and bytes of TensorFlow Datasets
//! - ImageNet: MD5 of torchvision (`datasets/imagenet.py`), bytes of TensorFlow Datasets; ImageNet-C: MD5 and bytes of
//!   Zenodo's record 2235448

use super::checksum::Checksum::{self, Md5, Sha256};

/// A published data set.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Set {
    /// What `dynvis data get` calls it.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) about: &'static str,
    /// Where pipelines look for it, relative to the project's folder.
    pub(crate) folder: &'static str,
    /// The stage kind that reads it.
    pub(crate) kind: &'static str,
    /// Its sources, where the kind is `dataset`.
    pub(crate) sources: &'static [&'static str],
    /// Under which conditions it may be used, in short. "ImageNet's terms" are those of
    /// <https://image-net.org/download>, non-commercial research and education, which hold for its photographs wherever
    /// they are.
    pub(crate) licence: &'static str,
    /// Who made it.
    pub(crate) citation: &'static str,
    /// The page where it is described.
    pub(crate) page: &'static str,
    /// Its files.
    pub(crate) files: &'static [Remote],
    /// What to do where files cannot be fetched without an account or an agreement, or not by this program.
    pub(crate) by_hand: Option<&'static str>,
}

/// A file as it is published.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Remote {
    /// Its name in the set's folder.
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
    /// All of which it must have.
    pub(crate) checksums: &'static [Checksum],
    /// Where it can be had, the first to try first. Empty where it has to be fetched by hand.
    pub(crate) addresses: &'static [&'static str],
    /// Set where pipelines read not the archive but what it holds.
    pub(crate) unpacked: Option<Unpacked>,
}

/// An archive that is unpacked, and then removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Unpacked {
    pub(crate) format: Format,
    /// Folder in the archive whose files come into the set's folder, in place of the archive's folders; of others
    /// nothing is unpacked.
    pub(crate) folder: &'static str,
    /// What these files take at most.
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    Zip,
    Tar,
}

impl Set {
    /// What has to be fetched.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether this program can fetch it.
    pub(crate) fn is_fetched(&self) -> bool {
        self.by_hand.is_none()
    }
}

/// The set of that name.
pub(crate) fn set(name: &str) -> Option<&'static Set> {
    SETS.iter().find(|set| set.name == name)
}

/// Of files that are read as they were published.
const fn plain(
    name: &'static str,
    bytes: u64,
    checksums: &'static [Checksum],
    addresses: &'static [&'static str],
) -> Remote {
    Remote {
        name,
        bytes,
        checksums,
        addresses,
        unpacked: None,
    }
}

/// All sets, in the order in which they are listed.
pub(crate) const SETS: &[Set] = &[
    Set {
        name: "mnist",
        about: "70,000 handwritten digits, 28 x 28",
        folder: "data/mnist",
        kind: "dataset",
        sources: &["mnist"],
        licence: "CC BY-SA 3.0",
        citation: "Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits",
        page: "http://yann.lecun.com/exdb/mnist/",
        files: &[
            plain(
                "train-images-idx3-ubyte.gz",
                9_912_422,
                &[
                    Md5("f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                    Sha256("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
                ],
                &[
                    "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
                    "https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz",
                ],
            ),
            plain(
                "train-labels-idx1-ubyte.gz",
                28_881,
                &[
                    Md5("d53e105ee54ea40749a09fcbcd1e9432"),
                    Sha256("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
                ],
                &[
                    "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz",
                    "https://storage.googleapis.com/cvdf-datasets/mnist/train-labels-idx1-ubyte.gz",
                ],
            ),
            plain(
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                &[
                    Md5("9fb629c4189551a2d022fa330f9573f3"),
                    Sha256("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
                ],
                &[
                    "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
                    "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-images-idx3-ubyte.gz",
                ],
            ),
            plain(
                "t10k-labels-idx1-ubyte.gz",
                4_542,
                &[
                    Md5("ec29112dd5afa0611ce80d1b7f02629c"),
                    Sha256("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
                ],
                &[
                    "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz",
                    "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz",
                ],
            ),
        ],
        by_hand: None,
    },
    Set {
        name: "fashion_mnist",
        about: "70,000 articles of clothing, 28 x 28",
        folder: "data/fashion_mnist",
        kind: "dataset",
        sources: &["fashion_mnist"],
        licence: "MIT",
        citation: "H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, Zalando SE 2017, arXiv 1708.07747",
        page: "https://github.com/zalandoresearch/fashion-mnist",
        files: &[
            plain(
                "train-images-idx3-ubyte.gz",
                26_421_880,
                &[
                    Md5("8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                    Sha256("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
                ],
                &[
                    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/train-images-idx3-ubyte.gz",
                    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",
                ],
            ),
            plain(
                "train-labels-idx1-ubyte.gz",
                29_515,
                &[
                    Md5("25c81989df183df01b3e8a0aad5dffbe"),
                    Sha256("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
                ],
                &[
                    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/train-labels-idx1-ubyte.gz",
                    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-labels-idx1-ubyte.gz",
                ],
            ),
            plain(
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                &[
                    Md5("bef4ecab320f06d8554ea6380940ec79"),
                    Sha256("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
                ],
                &[
                    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/t10k-images-idx3-ubyte.gz",
                    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-images-idx3-ubyte.gz",
                ],
            ),
            plain(
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                &[
                    Md5("bb300cfdad3c16e7a12a480ee83cd310"),
                    Sha256("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
                ],
                &[
                    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/t10k-labels-idx1-ubyte.gz",
                    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
                ],
            ),
        ],
        by_hand: None,
    },
    Set {
        name: "emnist",
        about: "handwritten digits and letters in six divisions, 28 x 28",
        folder: "data/emnist",
        kind: "dataset",
        sources: &[
            "emnist_balanced",
            "emnist_byclass",
            "emnist_bymerge",
            "emnist_digits",
            "emnist_letters",
            "emnist_mnist",
        ],
        licence: "none stated; from NIST data",
        citation: "G. Cohen, S. Afshar, J. Tapson, A. van Schaik: EMNIST, an extension of MNIST to handwritten \
                   letters, 2017, arXiv 1702.05373",
        page: "https://www.nist.gov/itl/products-and-services/emnist-dataset",
        files: &[Remote {
            name: "gzip.zip",
            bytes: 561_753_746,
            checksums: &[
                Md5("58c8d27c78d21e728a6bc7b3cc06412e"),
                Sha256("fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"),
            ],
            addresses: &[
                "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
                "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
            ],
            unpacked: Some(Unpacked {
                format: Format::Zip,
                folder: "gzip",
                bytes: 700_000_000,
            }),
        }],
        by_hand: None,
    },
    Set {
        name: "cifar10",
        about: "60,000 photographs of 10 classes, 32 x 32",
        folder: "data/cifar10",
        kind: "dataset",
        sources: &["cifar10"],
        licence: "none stated; cite the report",
        citation: "A. Krizhevsky: Learning multiple layers of features from tiny images, 2009",
        page: "https://www.cs.toronto.edu/~kriz/cifar.html",
        files: &[plain(
            "cifar-10-binary.tar.gz",
            170_052_171,
            &[
                Md5("c32a1d4ab5d03f1284b67883e8d87530"),
                Sha256("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
            ],
            &[
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "https://cave.cs.toronto.edu/kriz/cifar-10-binary.tar.gz",
            ],
        )],
        by_hand: None,
    },
    Set {
        name: "cifar100",
        about: "60,000 photographs of 100 classes, 32 x 32",
        folder: "data/cifar100",
        kind: "dataset",
        sources: &["cifar100"],
        licence: "none stated; cite the report",
        citation: "A. Krizhevsky: Learning multiple layers of features from tiny images, 2009",
        page: "https://www.cs.toronto.edu/~kriz/cifar.html",
        files: &[plain(
            "cifar-100-binary.tar.gz",
            168_513_733,
            &[
                Md5("03b5dce01913d631647c71ecec9e9cb8"),
                Sha256("58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"),
            ],
            &[
                "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
                "https://cave.cs.toronto.edu/kriz/cifar-100-binary.tar.gz",
            ],
        )],
        by_hand: None,
    },
    Set {
        name: "imagenette",
        about: "13,394 photographs of 10 classes of ImageNet, the shorter side 320",
        folder: "data/imagenette",
        kind: "dataset",
        sources: &["imagenette"],
        licence: "Apache-2.0; ImageNet's terms",
        citation: "J. Howard: Imagenette, fast.ai 2019",
        page: "https://github.com/fastai/imagenette",
        files: &[plain(
            "imagenette2-320.tgz",
            341_663_724,
            &[Md5("3df6f0d01a2c9592104656642f5e78a3")],
            &["https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz"],
        )],
        by_hand: None,
    },
    Set {
        name: "tiny_imagenet",
        about: "110,000 photographs of 200 classes of ImageNet, 64 x 64",
        folder: "data/tiny_imagenet",
        kind: "dataset",
        sources: &["tiny_imagenet"],
        licence: "none stated; ImageNet's terms",
        citation: "Y. Le, X. Yang: Tiny ImageNet visual recognition challenge, Stanford CS 231N, 2015",
        page: "http://cs231n.stanford.edu",
        files: &[plain(
            "tiny-imagenet-200.zip",
            248_100_043,
            &[Md5("90528d7ca1a48142e341f4ef8d21d0de")],
            &[
                "https://zenodo.org/records/10720917/files/tiny-imagenet-200.zip?download=1",
                "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            ],
        )],
        by_hand: None,
    },
    Set {
        name: "cifar10_c",
        about: "CIFAR-10's test images under 19 corruptions at 5 severities",
        folder: "data/cifar10_c",
        kind: "corruptions",
        sources: &[],
        licence: "CC BY 4.0",
        citation: CORRUPTIONS,
        page: "https://zenodo.org/records/2535967",
        files: &[Remote {
            name: "CIFAR-10-C.tar",
            bytes: 2_918_471_680,
            checksums: &[
                Md5("56bf5dcef84df0e2308c6dcbcbbd8499"),
                Sha256("c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7"),
            ],
            addresses: &["https://zenodo.org/records/2535967/files/CIFAR-10-C.tar?download=1"],
            unpacked: Some(Unpacked {
                format: Format::Tar,
                folder: "CIFAR-10-C",
                bytes: 2_918_471_680,
            }),
        }],
        by_hand: None,
    },
    Set {
        name: "cifar100_c",
        about: "CIFAR-100's test images under 19 corruptions at 5 severities",
        folder: "data/cifar100_c",
        kind: "corruptions",
        sources: &[],
        licence: "CC BY 4.0",
        citation: CORRUPTIONS,
        page: "https://zenodo.org/records/3555552",
        files: &[Remote {
            name: "CIFAR-100-C.tar",
            bytes: 2_918_473_216,
            checksums: &[
                Md5("11f0ed0f1191edbf9fa23466ae6021d3"),
                Sha256("30ee6543a1bfd049fa33834b7c1ada301e7064b7fbe8fc38340eb8b62ced4b33"),
            ],
            addresses: &["https://zenodo.org/records/3555552/files/CIFAR-100-C.tar?download=1"],
            unpacked: Some(Unpacked {
                format: Format::Tar,
                folder: "CIFAR-100-C",
                bytes: 2_918_473_216,
            }),
        }],
        by_hand: None,
    },
    Set {
        name: "imagenet",
        about: "ImageNet (ILSVRC 2012): 1,331,167 photographs of 1,000 classes",
        folder: "data/imagenet",
        kind: "dataset",
        sources: &["imagenet"],
        licence: "ImageNet's terms: non-commercial",
        citation: "O. Russakovsky et al.: ImageNet large scale visual recognition challenge, IJCV 115, 2015",
        page: "https://image-net.org/download.php",
        files: &[
            plain(
                "ILSVRC2012_img_train.tar",
                147_897_477_120,
                &[Md5("1d675b47d978889d74fa0da5fadfb00e")],
                &[],
            ),
            plain(
                "ILSVRC2012_img_val.tar",
                6_744_924_160,
                &[Md5("29b22e2961454d5413ddabcf34fc5622")],
                &[],
            ),
        ],
        by_hand: Some(
            "sign up at https://image-net.org/download.php, accept the terms, and put ILSVRC2012_img_train.tar, \
             ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz there",
        ),
    },
    Set {
        name: "imagenet_c",
        about: "ImageNet's validation images under 19 corruptions at 5 severities",
        folder: "data/imagenet_c",
        kind: "corruptions",
        sources: &[],
        licence: "CC BY 4.0; ImageNet's terms",
        citation: CORRUPTIONS,
        page: "https://zenodo.org/records/2235448",
        files: &[
            plain(
                "blur.tar",
                7_112_704_951,
                &[Md5("2d8e81fdd8e07fef67b9334fa635e45c")],
                &[],
            ),
            plain(
                "digital.tar",
                7_757_510_705,
                &[Md5("89157860d7b10d5797849337ca2e5c03")],
                &[],
            ),
            plain(
                "extra.tar",
                15_789_490_144,
                &[Md5("d492dfba5fc162d8ec2c3cd8ee672984")],
                &[],
            ),
            plain(
                "noise.tar",
                22_565_673_785,
                &[Md5("e80562d7f6c3f8834afb1ecf27252745")],
                &[],
            ),
            plain(
                "weather.tar",
                12_797_438_995,
                &[Md5("33ffea4db4d93fe4a428c40a6ce0c25d")],
                &[],
            ),
        ],
        by_hand: Some(
            "for its size (66 GB, 4.75 million files when unpacked): fetch the archives of the corruptions that you \
             need from https://zenodo.org/records/2235448 and unpack them there (`tar -xf noise.tar`)",
        ),
    },
    Set {
        name: "majajhong2015",
        about: "responses of neurons in V4 and IT of macaques to images of objects, the public part",
        folder: "data",
        kind: "recordings",
        sources: &[],
        licence: "as Brain-Score states it",
        citation: "N. J. Majaj, H. Hong, E. A. Solomon, J. J. DiCarlo, Journal of Neuroscience 35, 2015",
        page: "https://www.brain-score.org",
        files: &[],
        by_hand: Some(
            "`brainscore_vision.load_dataset(\"MajajHong2015.public\")` of Brain-Score's Python package fetches it; \
             put the assembly's .nc file there for the stage kind `recordings`, and the stimuli for `dataset`",
        ),
    },
];

const CORRUPTIONS: &str = "D. Hendrycks, T. Dietterich: Benchmarking neural network robustness to common corruptions \
                           and perturbations, ICLR 2019, arXiv 1903.12261";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_in_order() {
        for (at, set) in SETS.iter().enumerate() {
            let name = set.name;
            assert!(SETS[..at].iter().all(|other| other.name != name), "{name} twice");
            assert!(set.folder == "data" || set.folder.starts_with("data/"), "{name}");
            assert_eq!(
                set.by_hand.is_none(),
                set.files.iter().any(|f| !f.addresses.is_empty()),
                "{name}"
            );
            for file in set.files {
                let of = format!("{name}/{}", file.name);
                // Names become paths.
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                assert!(file.name.chars().all(is_plain) && !file.name.starts_with('.'), "{of}");
                assert!(file.bytes > 0 && !file.checksums.is_empty(), "{of}");
                assert_eq!(set.is_fetched(), !file.addresses.is_empty(), "{of}");
                for checksum in file.checksums {
                    let length = match checksum {
                        Checksum::Md5(_) => 32,
                        Checksum::Sha256(_) => 64,
                    };
                    let digits = checksum.digits();
                    assert_eq!(digits.len(), length, "{of}");
                    assert!(
                        digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
                        "{of}"
                    );
                }
                for address in file.addresses {
                    assert!(
                        address.starts_with("https://") || address.starts_with("http://"),
                        "{of}"
                    );
                    assert!(
                        address.split(['/', '?']).any(|part| part == file.name),
                        "{of}: {address}"
                    );
                }
                // Through a proxy, plain HTTP is what is refused most often.
                assert!(file.addresses.first().is_none_or(|a| a.starts_with("https://")), "{of}");
            }
        }
    }
}
