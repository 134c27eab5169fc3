;; Writes a line to its standard output: a whole program of WASI, preview 1.
;;
;;   agentkernel run examples/wasm/hello.wat
(module
  ;; Writes pieces of memory to a descriptor; here as many bytes as are written go to memory, too.
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $pieces i32) (param $count i32) (param $written i32)
      (result i32)))
  (memory (export "memory") 1)
  ;; One piece: where it begins, and how long it is.
  (data (i32.const 0) "\10\00\00\00\06\00\00\00")
  (data (i32.const 16) "hello\n")
  (func (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
