//! Debian packages, Yocto layer, Buildroot tree.

mod buildroot;
mod deb;
mod yocto;
