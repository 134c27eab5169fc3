//! A store in a folder of its own, with images of archives.

use std::path::{Path, PathBuf};

use agentkernel_images::{Chain, Config, Digest, Image, Images, Layer, Record};
use agentkernel_root_image::{RootImage, make};
use agentkernel_testkit::Scratch;
use agentkernel_unpack::{Bounds, unpack_layer};

pub struct Store {
    pub images: Images,
    pub scratch: Scratch,
}

impl Store {
    pub fn new() -> Self {
        let scratch = Scratch::public_in(&std::env::temp_dir()).unwrap();
        Self { images: Images::at(scratch.path().join("images")), scratch }
    }

    /// Keeps an image of these layers, and holds it.
    pub fn keep(&self, archives: &[Vec<u8>]) -> Image {
        keep(&self.images, archives)
    }

    /// The root image of these layers.
    pub fn root_image(&self, archives: &[Vec<u8>]) -> RootImage {
        make(&self.images, &self.keep(archives)).unwrap()
    }

    pub fn roots(&self) -> Vec<PathBuf> {
        files(&self.images.root().join("roots"))
    }

    /// What is in the making, without the locks.
    pub fn drafts(&self) -> Vec<PathBuf> {
        let mut drafts = files(&self.images.root().join("work"));
        drafts.retain(|path| path.extension().is_none_or(|end| end != "lock"));
        drafts
    }
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

pub fn keep(images: &Images, archives: &[Vec<u8>]) -> Image {
    let filling = images.fill().unwrap();
    let mut layers: Vec<Layer> = Vec::new();
    for archive in archives {
        let diff = Digest::of(archive);
        let chain = Chain::on(layers.last().map(|layer| &layer.chain), &diff);
        let below: Vec<PathBuf> = layers.iter().map(|layer| images.layer(&layer.chain)).collect();
        let mut bytes = 0;
        if let Some(draft) = filling.draft(&chain).unwrap() {
            let (root, entries) = (draft.root(), draft.entries());
            let mut bounds = Bounds::default();
            let unpacked =
                unpack_layer(archive.as_slice(), &diff, (&root, &entries), &below, &mut bounds);
            bytes = unpacked.unwrap();
            draft.keep().unwrap();
        }
        layers.push(Layer { chain, diff, bytes });
    }
    let configuration = filling.keep_blob(format!("{layers:?}").as_bytes()).unwrap();
    let manifest = filling.keep_blob(configuration.as_str().as_bytes()).unwrap();
    let (platform, config) = ("linux/amd64".into(), Config::default());
    let record = Record {
        manifest: manifest.clone(),
        configuration,
        platform,
        module: None,
        created: None,
        kept: 1,
        config,
        layers,
    };
    filling.keep(&record, &["kept"]).unwrap();
    Image::open(images, &manifest).unwrap().unwrap()
}
