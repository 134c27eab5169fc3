;; Says what it finds in its memory, and leaves something else there.
(module
  (memory (export "memory") 1)
  (global $calls (mut i32) (i32.const 0))
  (func (export "swap") (param $new i32) (result i32 i32)
    (i32.load (i32.const 4096))
    (i32.store (i32.const 4096) (local.get $new))
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (global.get $calls)))
