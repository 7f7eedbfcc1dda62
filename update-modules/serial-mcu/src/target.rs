//! Which pages of the flash an image takes.

use crate::config::{Erase, Target};

/// A page, or sector, of flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Its number for the bootloader.
    pub number: u16,
    /// Where it begins.
    pub start: u32,
    /// How many bytes it has.
    pub size: u32,
}

/// What an installation changes.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where the image goes.
    pub address: u32,
    /// First address that is erased.
    pub start: u32,
    /// How many bytes are erased.
    pub size: usize,
    /// The pages that are erased; all of them with [`Erase::Mass`].
    pub pages: Vec<Page>,
}

/// The image does not go where the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Nothing to write.
    #[error("the image is empty")]
    Empty,
    /// It does not fit.
    #[error(
        "the image of {size} bytes at {address:#010x} does not fit into the flash, which ends at {end:#010x}"
    )]
    TooLarge {
        /// Bytes of the image.
        size: usize,
        /// Where it was to go.
        address: u32,
        /// End of the flash.
        end: u64,
    },
    /// Erasing would hit what lies before it.
    #[error(
        "the address {address:#010x} is not the beginning of a page, and what lies before it would be erased"
    )]
    NotAligned {
        /// Where it was to go.
        address: u32,
    },
}

/// What an image of this size changes.
pub fn plan(target: &Target, size: usize) -> Result<Plan, PlanError> {
    if size == 0 {
        return Err(PlanError::Empty);
    }
    let address = target.address.unwrap_or(target.flash_address);
    let all = pages(target);
    let end = all.last().map_or(u64::from(target.flash_address), |page| {
        u64::from(page.start) + u64::from(page.size)
    });
    let image_end = u64::from(address) + size as u64;
    if image_end > end || address < target.flash_address {
        return Err(PlanError::TooLarge { size, address, end });
    }
    let taken: Vec<Page> = match target.erase {
        Erase::Mass => all,
        Erase::Pages => all
            .into_iter()
            .filter(|page| page.start >= address && u64::from(page.start) < image_end)
            .collect(),
    };
    let start = taken.first().map_or(address, |page| page.start);
    if target.erase == Erase::Pages && (taken.is_empty() || start != address) {
        return Err(PlanError::NotAligned { address });
    }
    Ok(Plan {
        address,
        start,
        size: taken.iter().map(|page| page.size as usize).sum(),
        pages: taken,
    })
}

fn pages(target: &Target) -> Vec<Page> {
    let sizes = match (&target.sectors, target.page_size, target.flash_size) {
        (Some(sectors), ..) => sectors.clone(),
        (None, Some(page), Some(flash)) => vec![page; (flash / page) as usize],
        _ => Vec::new(),
    };
    let mut start = target.flash_address;
    let mut pages = Vec::with_capacity(sizes.len());
    for (number, size) in (0..).zip(sizes) {
        pages.push(Page {
            number,
            start,
            size,
        });
        start = start.saturating_add(size);
    }
    pages
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn target(more: &str) -> Target {
        toml::from_str(&format!("device = '/dev/null'\nprotocol = 'stm32'\n{more}")).unwrap()
    }

    fn numbers(plan: &Plan) -> Vec<u16> {
        plan.pages.iter().map(|page| page.number).collect()
    }

    #[test]
    fn an_image_takes_whole_pages() {
        let even = target("page_size = 1024\nflash_size = 0x10000\naddress = 0x08000800");
        let two = plan(&even, 1025).unwrap();
        assert_eq!(
            (numbers(&two), two.start, two.size),
            (vec![2, 3], 0x0800_0800, 2048)
        );
        assert_eq!(numbers(&plan(&even, 1024).unwrap()), [2]);
        let odd = target("sectors = [0x4000, 0x4000, 0x10000]\naddress = 0x08004000");
        let large = plan(&odd, 0x4001).unwrap();
        assert_eq!((numbers(&large), large.size), (vec![1, 2], 0x14000));
    }

    #[test]
    fn a_mass_erasure_takes_all() {
        let mass =
            target("page_size = 1024\nflash_size = 4096\naddress = 0x08000404\nerase = 'mass'");
        let plan = plan(&mass, 10).unwrap();
        assert_eq!(
            (plan.address, plan.start, plan.size),
            (0x0800_0404, 0x0800_0000, 4096)
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let wanted = |more: &str, size| plan(&target(more), size).unwrap_err().to_string();
        let small = "page_size = 1024\nflash_size = 4096\n";
        assert!(wanted(small, 0).contains("empty"));
        assert!(wanted(small, 4097).contains("does not fit"));
        assert!(wanted(&format!("{small}address = 0x08000c00"), 1025).contains("0x08001000"));
        assert!(wanted(&format!("{small}address = 0x07000000"), 1).contains("does not fit"));
        assert!(wanted(&format!("{small}address = 0x08000200"), 1).contains("beginning of a page"));
        assert!(wanted(&format!("{small}address = 0x08000e00"), 1).contains("beginning of a page"));
    }
}
