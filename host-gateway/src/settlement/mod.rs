//! Settlement per operator.
