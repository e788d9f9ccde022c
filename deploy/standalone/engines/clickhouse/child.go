package clickhouse

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

// ChildCommand is the first argument with which this executable is run again to be the engine. A program that starts the
// library must call RunChild with the arguments behind it before it does anything else.
const ChildCommand = "clickhouse-child"

// childQuery opens the listeners and then keeps the library busy, for it leaves when its query ends. The endless query
// sleeps three seconds at a time and reads a number.
const childQuery = "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; " +
	"SELECT sleepEachRow(3) FROM system.numbers SETTINGS max_block_size = 1 FORMAT Null"

// RunChild is the engine's process: it loads the library args[0] with the configuration file args[1] and serves until
// standard input closes, which happens when the parent ends. It returns only when the engine could not start or gave up.
func RunChild(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s wants a library and a configuration file; it is run by Millrace itself", ChildCommand)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0) // everything acknowledged is on disk; an orderly stop takes seconds and saves nothing
	}()
	pinned, err := releaseHere()
	if err != nil {
		return err
	}
	return runLibrary(pinned, args[0], "clickhouse", "--config-file="+args[1], "--query", childQuery)
}

// keepErrorHandler makes exceptions that leave a connection's handler as harmless as they are in a ClickHouse server, which
// logs them. The library begins with a handler that ignores them, and replaces it with one that aborts, for it was made
// to serve one caller; here it serves many, and one of them who leaves in the middle of an answer, or does not know the
// password, would end the engine for all. So the first handler is put back. address is where the library keeps it.
func keepErrorHandler(address uintptr) {
	slot := *(**uintptr)(unsafe.Pointer(&address))
	first := atomic.LoadUintptr(slot)
	for atomic.CompareAndSwapUintptr(slot, first, first) {
		time.Sleep(time.Millisecond)
	}
	atomic.StoreUintptr(slot, first)
}

// runLibrary calls chdb_query_cmdline(argc, argv), which takes the arguments of clickhouse-local.
func runLibrary(pinned release, path string, args ...string) error {
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load ClickHouse from %s: %w", path, err)
	}
	entry, err := purego.Dlsym(lib, "chdb_query_cmdline")
	if err != nil {
		return fmt.Errorf("find the entry of %s: %w", path, err)
	}
	go keepErrorHandler(entry - pinned.entry + pinned.errorHandler)
	var query func(argc int32, argv unsafe.Pointer) uintptr
	purego.RegisterFunc(&query, entry)
	var resultError func(result uintptr) string
	purego.RegisterLibFunc(&resultError, lib, "chdb_result_error")

	argv := make([]*byte, len(args)+1) // ends with a null pointer
	var pins runtime.Pinner
	defer pins.Unpin()
	for i, arg := range args {
		text := append([]byte(arg), 0)
		argv[i] = &text[0]
		pins.Pin(argv[i])
	}
	pins.Pin(&argv[0])
	result := query(int32(len(args)), unsafe.Pointer(&argv[0]))
	if result == 0 {
		return errors.New("ClickHouse ended without a word")
	}
	reason, _, _ := strings.Cut(resultError(result), ", Stack trace") // of addresses without names
	if reason = strings.TrimSpace(reason); reason != "" {
		return errors.New(reason)
	}
	return errors.New("ClickHouse ended by itself")
}
