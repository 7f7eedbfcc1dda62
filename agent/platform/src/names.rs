//! Who looks up names of users, groups and hosts.

/// Has the C library look names up by itself: users and groups in their files, hosts in `/etc/hosts` and by DNS.
///
/// A static program carries its C library with it. The plug-ins that the device's `nsswitch.conf` names belong to
/// another one: loading them brings that one into memory too, and may end the program. A dynamic program is left
/// alone. Call it before the first lookup.
pub fn without_plugins() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    {
        use std::ffi::{CStr, c_char, c_int};

        unsafe extern "C" {
            fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
        }

        const DATABASES: [(&CStr, &CStr); 4] = [
            (c"passwd", c"files"),
            (c"group", c"files"),
            (c"initgroups", c"files"),
            (c"hosts", c"files dns"),
        ];
        for (database, services) in DATABASES {
            // SAFETY: both are texts that end with a zero and live as long as the program; the function keeps
            // no pointer to the first and may keep one to the second. It fails for unknown databases only.
            unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
        }
    }
}
