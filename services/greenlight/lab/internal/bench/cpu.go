package bench

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// tick is the unit of times in /proc; it is the same on all Linux platforms of Go.
const tick = 10 * time.Millisecond

// CPU returns the CPU time that the process has used. ok is false on systems other than Linux.
func CPU(pid int) (time.Duration, bool) {
	raw, err := durable.ReadFile(fmt.Sprintf("/proc/%d/stat", pid), durable.MaxDocument)
	if err != nil {
		return 0, false
	}
	return parseStat(string(raw))
}

// parseStat reads user and system time, fields 14 and 15, of /proc/<pid>/stat. The second field is the program's name,
// which may contain any character.
func parseStat(line string) (time.Duration, bool) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 13 {
		return 0, false
	}
	return ticks(fields[11:13])
}

// machineBusy returns the CPU time that the whole machine has used.
func machineBusy() (time.Duration, bool) {
	raw, err := durable.ReadFile("/proc/stat", durable.MaxDocument)
	if err != nil {
		return 0, false
	}
	return parseBusy(string(raw))
}

// parseBusy adds user, nice, system, irq, softirq and steal time of the first line of /proc/stat.
func parseBusy(text string) (time.Duration, bool) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, false
	}
	return ticks([]string{fields[1], fields[2], fields[3], fields[6], fields[7], fields[8]})
}

func ticks(fields []string) (time.Duration, bool) {
	var sum time.Duration
	for _, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, false
		}
		sum += time.Duration(n) * tick
	}
	return sum, true
}
