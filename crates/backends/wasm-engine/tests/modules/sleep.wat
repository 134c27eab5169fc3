;; Waits for an hour, or for its input.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; Two subscriptions of 48 bytes: a clock, the monotonic one, with a time; and input.
  (func $clock (param $nanoseconds i64) (param $events i32) (result i32)
    (i32.store8 (i32.const 8) (i32.const 0))
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (local.get $nanoseconds))
    ;; The second is to read descriptor 0.
    (i32.store8 (i32.const 56) (i32.const 1))
    (i32.store (i32.const 64) (i32.const 0))
    (drop (call $poll (i32.const 0) (i32.const 1024) (local.get $events) (i32.const 512)))
    ;; Of which kind the first event was: 0 is the clock.
    (i32.load8_u (i32.const 1034)))
  (func (export "sleep") (drop (call $clock (i64.const 3600000000000) (i32.const 1))))
  (func (export "first") (param $milliseconds i64) (result i32)
    (call $clock (i64.mul (local.get $milliseconds) (i64.const 1000000)) (i32.const 2))))
