//! The same test under every primary CNI, and under bridge with and without br_netfilter.

/// `under_every_primary!(a, b)` makes the tests `bridge::a`, `bridge_nf::a`, `ptp::a`, `calico::a`, and so on, out of
/// functions `fn a(primary: Primary, bridge_nf: bool)`.
macro_rules! under_every_primary {
    ($($test:ident),+ $(,)?) => {
        under_every_primary!(@ bridge, Bridge, false, $($test),+);
        under_every_primary!(@ bridge_nf, Bridge, true, $($test),+);
        under_every_primary!(@ ptp, Ptp, false, $($test),+);
        under_every_primary!(@ calico, Calico, false, $($test),+);
    };
    (@ $module:ident, $primary:ident, $bridge_nf:literal, $($test:ident),+) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::$test($crate::harness::Primary::$primary, $bridge_nf);
                }
            )+
        }
    };
}
pub(crate) use under_every_primary;
