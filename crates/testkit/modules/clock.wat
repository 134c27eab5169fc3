;; Writes, as it is in memory: the time of day, the time that has passed since whenever, the same
;; after a sleep of 20 ms, all in nanoseconds, and 16 random bytes. Exit status 1 says that
;; something of this failed.
(module
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get"
    (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  ;; What is written, from 128 on, as a piece.
  (data (i32.const 0) "\80\00\00\00\28\00\00\00")
  (func $works (param $errno i32)
    (if (local.get $errno) (then (call $proc_exit (i32.const 1)))))
  (func (export "_start")
    (call $works (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 128)))
    (call $works (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 136)))
    ;; A subscription at 256 to the second clock, for 20 ms from now; the event comes to 512.
    (i32.store offset=16 (i32.const 256) (i32.const 1))
    (i64.store offset=24 (i32.const 256) (i64.const 20000000))
    (call $works (call $poll_oneoff (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 16)))
    (call $works (i32.load16_u offset=8 (i32.const 512)))
    (call $works (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 144)))
    (call $works (call $random_get (i32.const 152) (i32.const 16)))
    (call $works (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
