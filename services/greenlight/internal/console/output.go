package console

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

const (
	outputFlag = "output"
	outputText = "text"
	outputJSON = "json"
)

// output is the value of --output. Console has a pointer to it, because commands are built before flags are parsed.
type output struct {
	format string
	// text receives the text for people, stdout the JSON.
	text   io.Writer
	stdout io.Writer
}

// Write implements io.Writer for text.
func (o *output) Write(p []byte) (int, error) {
	if o.format == outputJSON {
		return len(p), nil
	}
	return o.text.Write(p)
}

// declare declares --output.
func (o *output) declare(fs *pflag.FlagSet) {
	fs.StringVar(&o.format, outputFlag, outputText, "`format` of the result: text, or json (only for commands that print a verdict, a status or a list)")
}

// check returns an error unless cmd can print the format.
func (o *output) check(cmd *cobra.Command) error {
	switch {
	case o.format == outputText:
		return nil
	case o.format != outputJSON:
		return Usagef("--%s %q: want %s or %s", outputFlag, o.format, outputText, outputJSON)
	case cmd.Annotations[schemaKey] == "":
		return Usagef("--%s %s: %s prints no verdict, status or list", outputFlag, outputJSON, cmd.CommandPath())
	}
	return nil
}

// The annotations of a command that can print JSON: the schema of its result, and the form of the schema.
const schemaKey, formKey = "output schema", "output form"

// Outputs declares that cmd prints a T with --output json, and returns the function that prints it. The JSON is an object with
// the schema and the result. It replaces the text.
func Outputs[T any](c Console, cmd *cobra.Command, schema string) func(T) error {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[schemaKey] = schema
	cmd.Annotations[formKey] = formOf(reflect.TypeFor[T]())
	return func(result T) error { return c.json(schema, result) }
}

func (c Console) json(schema string, result any) error {
	if c.output == nil || c.output.format != outputJSON {
		return nil
	}
	enc := json.NewEncoder(c.output.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		Schema string `json:"schema"`
		Result any    `json:"result"`
	}{schema, result})
}

// Output returns the schema of what cmd prints with --output json and its form; ok is false if it prints none.
func Output(cmd *cobra.Command) (schema, form string, ok bool) {
	schema, ok = cmd.Annotations[schemaKey]
	return schema, cmd.Annotations[formKey], ok
}

// verdictSchema is the schema of a [gate.Scorecard].
const verdictSchema = "greenlight/verdict/v1"

// verdict is the JSON of a [gate.Scorecard].
type verdict struct {
	Verdict gate.Verdict  `json:"verdict"`
	Results []gate.Result `json:"results"`
}

// OutputsVerdict declares that cmd ends with [Console.Verdict].
func OutputsVerdict(c Console, cmd *cobra.Command) { Outputs[verdict](c, cmd, verdictSchema) }

// formOf describes the JSON of a type: one line per field, "path  type".
func formOf(t reflect.Type) string {
	var lines []string
	describe(t, "", &lines, nil)
	return strings.Join(lines, "\n")
}

// plain has the types that are a single JSON value, whatever their fields.
var plain = map[reflect.Type]string{
	reflect.TypeFor[time.Time](): "time (RFC 3339)", reflect.TypeFor[json.RawMessage](): "any", reflect.TypeFor[gate.Verdict](): "verdict",
	reflect.TypeFor[gate.Scorecard](): "verdict, results",
}

func describe(t reflect.Type, path string, lines *[]string, above []reflect.Type) {
	add := func(kind string) { *lines = append(*lines, strings.TrimSpace(fmt.Sprintf("%s  %s", path, kind))) }
	if name, ok := plain[t]; ok {
		add(name)
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		describe(t.Elem(), path, lines, above)
	case reflect.Slice, reflect.Array:
		describe(t.Elem(), path+"[]", lines, above)
	case reflect.Map:
		describe(t.Elem(), path+"{}", lines, above)
	case reflect.Struct:
		if slices.Contains(above, t) {
			add("as above")
			return
		}
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "-" || !f.IsExported():
			case f.Anonymous && name == "":
				describe(f.Type, path, lines, append(above, t))
			default:
				if name == "" {
					name = f.Name
				}
				describe(f.Type, strings.TrimPrefix(path+"."+name, "."), lines, append(above, t))
			}
		}
	case reflect.String:
		add("string")
	case reflect.Bool:
		add("bool")
	case reflect.Interface:
		add("any")
	default:
		add("number")
	}
}
