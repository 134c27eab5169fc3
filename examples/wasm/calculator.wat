;; Functions to call by their names. It imports nothing, so all it can do is count.
;;
;;   agentkernel run --invoke add examples/wasm/calculator.wat 2 3
;;   agentkernel run --invoke power examples/wasm/calculator.wat 3 40
;;   agentkernel run --invoke divide examples/wasm/calculator.wat 1 0    (ends by SIGFPE)
(module
  (func (export "add") (param i64 i64) (result i64)
    (i64.add (local.get 0) (local.get 1)))
  (func (export "multiply") (param i64 i64) (result i64)
    (i64.mul (local.get 0) (local.get 1)))
  (func (export "divide") (param i64 i64) (result i64)
    (i64.div_s (local.get 0) (local.get 1)))
  (func (export "root") (param f64) (result f64)
    (f64.sqrt (local.get 0)))
  ;; By squaring, as long as there is something left of the exponent.
  (func (export "power") (param $base i64) (param $exponent i64) (result i64)
    (local $result i64)
    (local.set $result (i64.const 1))
    (block $done
      (loop $next
        (br_if $done (i64.eqz (local.get $exponent)))
        (if (i64.ne (i64.and (local.get $exponent) (i64.const 1)) (i64.const 0))
          (then (local.set $result (i64.mul (local.get $result) (local.get $base)))))
        (local.set $base (i64.mul (local.get $base) (local.get $base)))
        (local.set $exponent (i64.shr_u (local.get $exponent) (i64.const 1)))
        (br $next)))
    (local.get $result)))
