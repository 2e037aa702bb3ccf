//! I²C and SPI.
