//! Debian packages, Yocto layer, Buildroot tree.

mod deb;
