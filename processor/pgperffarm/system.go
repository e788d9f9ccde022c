package pgperffarm

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// system reads on what it was measured, as far as that is not known.
func (p *parser) system() {
	if p.err != nil {
		return
	}
	text := p.systems.text(p.members, p.limits)
	if p.systems.find(text, &p.doc.System) {
		p.hardware()
		return
	}
	p.readSystem()
	if p.err == nil {
		p.systems.keep(text, &p.doc.System)
	}
}

func (p *parser) readSystem() {
	p.kernel()
	p.os()
	p.hardware()
	p.sysctl()
	p.compiler()
	p.settings()
}

func (p *parser) kernel() {
	p.need("kernel")
	p.object([]string{"uname_s", "uname_r", "uname_v", "uname_m"}, func(name []byte) bool {
		switch string(name) {
		case "uname_s":
			p.doc.Kernel.Name = p.text(maxName)
			if s := p.doc.Kernel.Name; p.err == nil && s != "Linux" && s != "Darwin" {
				p.fail("must be Linux or Darwin, not %s", shown([]byte(s)))
			}
		case "uname_r":
			p.doc.Kernel.Release = p.text(maxName)
		case "uname_v":
			p.doc.Kernel.Version = p.text(maxName)
		case "uname_m":
			p.doc.MachineType = p.requiredText(maxName)
		default:
			return false
		}
		return true
	})
}

func (p *parser) os() {
	p.need("os_information")
	p.object([]string{"distributor", "description", "release", "codename"}, func(name []byte) bool {
		switch string(name) {
		case "distributor":
			p.doc.OS.Distributor = p.text(maxName)
		case "description":
			p.doc.OS.Description = p.textOrNull(maxName)
		case "release":
			p.doc.OS.Release = p.textOrNull(maxName)
		case "codename":
			p.doc.OS.Codename = p.textOrNull(maxName)
		default:
			return false
		}
		return true
	})
}

func (p *parser) hardware() {
	p.need("system")
	p.object([]string{"cpu", "memory"}, func(name []byte) bool {
		switch string(name) {
		case "cpu":
			p.object([]string{"information"}, func(name []byte) bool {
				if string(name) != "information" {
					return false
				}
				p.cpu()
				return true
			})
		case "memory":
			p.memory()
		default:
			return false
		}
		return true
	})
}

// cpu reads the processor. The client leaves out what its library cannot find out, on some machines the model and on
// many the frequency; that does not cost the machine its upload (weakness W13). Only the count is always there.
func (p *parser) cpu() {
	var brand, rawBrand string
	var hz, rawHz int64
	p.object([]string{"count"}, func(name []byte) bool {
		switch string(name) {
		case "brand":
			brand = p.textOrNull(maxName)
		case "brand_raw":
			rawBrand = p.textOrNull(maxName)
		case "hz_actual":
			hz = p.frequency()
		case "hz_actual_raw":
			rawHz = p.frequency()
		case "count":
			p.doc.Hardware.Cores = int(p.integer(1, maxInt4))
		default:
			return false
		}
		return true
	})
	p.doc.Hardware.CPUBrand = cmp.Or(brand, rawBrand)
	p.doc.Hardware.Hz = cmp.Or(rawHz, hz)
}

// frequency reads hertz from an array's first element; null and an empty array mean unknown and give 0.
func (p *parser) frequency() int64 {
	if p.kind() == jsontext.KindNull {
		p.value()
		return 0
	}
	var hz int64
	for i := range p.elements() {
		if i > 0 || p.kind() == jsontext.KindNull {
			p.value()
			continue
		}
		hz = p.integer(0, math.MaxInt64)
	}
	return hz
}

func (p *parser) memory() {
	p.object([]string{"virtual", "swap", "mounts"}, func(name []byte) bool {
		switch string(name) {
		case "virtual":
			p.doc.Hardware.TotalMemory = p.total()
		case "swap":
			p.doc.Hardware.TotalSwap = p.total()
		case "mounts":
			p.doc.Hardware.Mounts = p.mounts()
		default:
			return false
		}
		return true
	})
}

func (p *parser) total() (bytes int64) {
	p.object([]string{"total"}, func(name []byte) bool {
		if string(name) != "total" {
			return false
		}
		bytes = p.integer(0, math.MaxInt64)
		return true
	})
	return bytes
}

// mounts reads an array of objects of any content, which is kept in canonical form.
func (p *parser) mounts() string {
	raw := p.value()
	if p.err != nil {
		return ""
	}
	inner := new(reader)
	inner.start("system.memory.mounts", raw)
	for range inner.elements() {
		if inner.kind() != jsontext.KindBeginObject {
			inner.wrongKind("an object")
		}
		inner.checkTree()
	}
	if p.err = inner.err; p.err != nil {
		return ""
	}
	canonical := raw.Clone()
	if err := canonical.Format(jsontext.ReorderRawObjects(true)); err != nil {
		p.fail("cannot be kept: %v", err)
	}
	return string(canonical)
}

// checkTree reads a value of any form and checks that all that it holds can be kept and shown.
func (r *reader) checkTree() {
	for depth := len(r.within); r.err == nil; {
		switch r.kind() {
		case jsontext.KindBeginArray, jsontext.KindBeginObject, jsontext.KindEndArray, jsontext.KindEndObject:
			r.token()
		case jsontext.KindString:
			if raw := r.value(); r.err == nil {
				r.unquote(raw, nil)
			}
		case jsontext.KindNumber:
			r.looseNumber()
		default:
			r.value()
		}
		if len(r.within) == depth {
			return
		}
	}
}

// sysctlUnknown stands for the parameters when none of the known ones was sent (section 6.1).
const sysctlUnknown = `"known sysctl info not found"`

// parameter is a kernel parameter.
type parameter struct{ name, value string }

// sysctl reads the kernel parameters, which come as JSON within a string, and keeps the known ones.
func (p *parser) sysctl() {
	p.need("sysctl_log")
	p.doc.SysctlLog = p.text(0)
	if p.err != nil {
		return
	}
	log := []byte(p.doc.SysctlLog)
	if tooDeep(log, p.limits.MaxDepth) >= 0 {
		p.fail("is nested too deeply, the limit is %d levels", p.limits.MaxDepth)
		return
	}
	inner := newReader("sysctl_log", log)
	var known []parameter
	inner.object(nil, func(name []byte) bool {
		if !knownSysctl(name) {
			return false
		}
		known = append(known, parameter{string(name), inner.text(0)})
		return true
	})
	if p.err = inner.err; p.err != nil {
		return
	}
	canonical, err := canonicalSysctl(known)
	if err != nil {
		p.fail("cannot be kept: %v", err)
	}
	p.doc.Hardware.Sysctl = canonical
}

// canonicalSysctl writes the parameters as a JSON object, sorted by name.
func canonicalSysctl(known []parameter) (string, error) {
	if len(known) == 0 {
		return sysctlUnknown, nil
	}
	slices.SortFunc(known, func(a, b parameter) int { return strings.Compare(a.name, b.name) })
	object := []byte("{")
	for i, param := range known {
		if i > 0 {
			object = append(object, ',')
		}
		var err error
		object = append(object, `"`+param.name+`":`...)
		if object, err = jsontext.AppendQuote(object, param.value); err != nil {
			return "", err
		}
	}
	return string(append(object, '}')), nil
}

// compiledBy stands before the compiler in the output of SELECT version().
const compiledBy = "compiled by "

func (p *parser) compiler() {
	p.need("compiler")
	version := p.text(0)
	p.doc.Compiler = "impossible to parse compiler"
	if _, after, found := strings.Cut(version, compiledBy); found {
		if comma := strings.LastIndexByte(after, ','); comma >= 0 {
			p.doc.Compiler = after[:comma]
		}
	}
	if n := utf8.RuneCountInString(p.doc.Compiler); n > maxCompiler {
		p.fail("names a compiler of %d characters, the limit is %d", n, maxCompiler)
	}
}

// knownSysctl holds the parameters of both kernels (appendix A), whichever the machine runs.
func knownSysctl(name []byte) bool {
	switch string(name) {
	case "kernel.shmmax", "kernel.shmmin", "kernel.shmall", "kernel.shmseg", "kernel.shmmni",
		"kernel.semmni", "kernel.semmns", "kernel.semmsl", "kernel.semmap", "kernel.semvmx",
		"vm.nr_hugepages", "vm.nr_hugepages_mempolicy", "vm.nr_overcommit_hugepages",
		"vm.overcommit_kbytes", "vm.overcommit_memory", "vm.overcommit_ratio", "vm.swappiness",
		"vm.numa_stat", "vm.numa_zonelist_order", "vm.dirty_background_bytes", "vm.dirty_background_ratio",
		"vm.dirty_bytes", "vm.dirty_expire_centisecs", "vm.dirty_ratio", "vm.dirty_writeback_centisecs",
		"vm.dirtytime_expire_seconds",
		"kern.sysv.shmmax", "kern.sysv.shmmin", "kern.sysv.shmmni", "kern.sysv.shmseg", "kern.sysv.shmall",
		"kern.sysv.semmni", "kern.sysv.semmns", "kern.sysv.semmnu", "kern.sysv.semmsl", "kern.sysv.semume",
		"kern.posix.sem.max":
		return true
	}
	return false
}
