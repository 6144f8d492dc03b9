fn main() {
    println!("{} from Rust {}", word::word(), env!("CARGO_PKG_VERSION"));
}
