;; Exits with the number that its second argument begins with, of up to three digits.
(module
  (import "wasi_snapshot_preview1" "args_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $at i32) (local $status i32) (local $digit i32)
    (drop (call $get (i32.const 0) (i32.const 1024)))
    (local.set $at (i32.load (i32.const 4)))
    (loop $more
      (local.set $digit (i32.load8_u (local.get $at)))
      (if (local.get $digit)
        (then
          (local.set $status
            (i32.add
              (i32.mul (local.get $status) (i32.const 10))
              (i32.sub (local.get $digit) (i32.const 48))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $more))))
    (call $exit (local.get $status))))
