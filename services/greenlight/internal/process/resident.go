package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// Resident is the memory that the process occupies, in bytes. It fails where the system does not tell (Linux does).
func (p *Process) Resident() (int64, error) {
	pid := p.PID()
	raw, err := durable.ReadFile(fmt.Sprintf("/proc/%d/statm", pid), durable.MaxDocument)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm has %d fields", pid, len(fields))
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
