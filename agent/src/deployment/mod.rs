//! One deployment, from instructions to the final report.
