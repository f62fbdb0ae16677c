//! The exposition: the catalogue of families, and the encoder that renders a snapshot of the books.
