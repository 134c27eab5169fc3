//! How a registry is asked, by servers that are stricter than real ones.
