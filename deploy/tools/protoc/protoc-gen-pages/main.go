// Command protoc-gen-pages is a plugin of buf and protoc. It generates the reference of the contract from the comments in the
// .proto files: one Markdown page per service, and an index.
//
// A page describes the methods of its service, and the messages and enums that these refer to.
package main

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// sources is the folder of the .proto files, relative to the pages.
const sources = "../../../proto/"

func main() {
	protogen.Options{}.Run(func(plugin *protogen.Plugin) error {
		plugin.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)
		enums := map[protoreflect.FullName]*protogen.Enum{}
		for _, file := range plugin.Files {
			for _, enum := range file.Enums {
				enums[enum.Desc.FullName()] = enum
			}
		}
		index := plugin.NewGeneratedFile("README.md", "")
		index.P("# The contract\n\nGenerated from the comments of [the .proto files](", sources, "greenlight) by `make generate`.\n")
		for _, file := range plugin.Files {
			for _, service := range file.Services {
				if !file.Generate {
					continue
				}
				name := strings.TrimPrefix(string(service.Desc.FullName()), "greenlight.") + ".md"
				plugin.NewGeneratedFile(name, "").P(newPage(enums).write(file, service))
				first, _, _ := strings.Cut(blocks(service.Comments.Leading)[0], ". ")
				index.P("- [`", service.Desc.FullName(), "`](", name, "): ", escape(strings.TrimSuffix(first, ".")), ".")
			}
		}
		return nil
	})
}

// page is the page of one service.
type page struct {
	out strings.Builder
	// enums holds every enum of the contract.
	enums map[protoreflect.FullName]*protogen.Enum
	// messages holds the messages that the page describes, in order of first use; used the enums.
	messages []*protogen.Message
	used     []*protogen.Enum
}

func newPage(enums map[protoreflect.FullName]*protogen.Enum) *page { return &page{enums: enums} }

func (p *page) write(file *protogen.File, service *protogen.Service) string {
	source := file.Desc.Path()
	fmt.Fprintf(&p.out, "# %s\n\nGenerated from [%s](%s%s) by `make generate`. The full name is `%s`.\n\n", service.Desc.Name(),
		path.Base(source), sources, source, service.Desc.FullName())
	p.comment(service.Desc, service.Comments.Leading)
	p.out.WriteString("## Methods\n\n")
	for _, method := range service.Methods {
		p.add(method.Input)
		p.add(method.Output)
		fmt.Fprintf(&p.out, "### %s\n\n%s([%s](#%s)) returns %s([%s](#%s))", method.Desc.Name(),
			stream(method.Desc.IsStreamingClient()), method.Input.Desc.Name(), anchor(method.Input.Desc),
			stream(method.Desc.IsStreamingServer()), method.Output.Desc.Name(), anchor(method.Output.Desc))
		options, _ := method.Desc.Options().(*descriptorpb.MethodOptions)
		if options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS {
			p.out.WriteString(". It has no side effects.")
		}
		p.out.WriteString("\n\n")
		p.comment(method.Desc, method.Comments.Leading)
	}
	p.out.WriteString("## Messages\n\n")
	for i := 0; i < len(p.messages); i++ { // grows during the loop
		p.message(p.messages[i])
	}
	if len(p.used) > 0 {
		p.out.WriteString("## Enums\n\n")
	}
	for i := 0; i < len(p.used); i++ {
		p.enum(p.used[i])
	}
	return strings.TrimSpace(p.out.String())
}

func (p *page) message(m *protogen.Message) {
	fmt.Fprintf(&p.out, "### %s\n\n", m.Desc.Name())
	p.comment(m.Desc, m.Comments.Leading)
	if len(m.Fields) == 0 {
		return
	}
	p.out.WriteString("| field | type | meaning |\n|---|---|---|\n")
	for _, f := range m.Fields {
		meaning := p.cell(f.Desc, f.Comments.Leading)
		if f.Oneof != nil && !f.Oneof.Desc.IsSynthetic() {
			meaning += fmt.Sprintf(" One of %#q.", f.Oneof.Desc.Name())
		}
		fmt.Fprintf(&p.out, "| `%s` = %d | %s | %s |\n", f.Desc.Name(), f.Desc.Number(), p.typeOf(f), meaning)
	}
	p.out.WriteString("\n")
}

func (p *page) enum(e *protogen.Enum) {
	fmt.Fprintf(&p.out, "### %s\n\n", e.Desc.Name())
	p.comment(e.Desc, e.Comments.Leading)
	p.out.WriteString("| value | meaning |\n|---|---|\n")
	for _, v := range e.Values {
		fmt.Fprintf(&p.out, "| `%s` = %d | %s |\n", v.Desc.Name(), v.Desc.Number(), p.cell(v.Desc, v.Comments.Leading))
	}
	p.out.WriteString("\n")
}

// typeOf returns the type of a field, with a link if the page describes it.
func (p *page) typeOf(f *protogen.Field) string {
	switch {
	case f.Desc.IsMap():
		return fmt.Sprintf("map of %s to %s", p.single(f.Message.Fields[0]), p.single(f.Message.Fields[1]))
	case f.Desc.IsList():
		return "repeated " + p.single(f)
	case f.Desc.HasOptionalKeyword():
		return "optional " + p.single(f)
	}
	return p.single(f)
}

func (p *page) single(f *protogen.Field) string {
	var named protoreflect.Descriptor
	switch {
	case f.Message != nil && f.Message.Desc.ParentFile().Package() == "google.protobuf":
		return fmt.Sprintf("%#q", f.Message.Desc.FullName())
	case f.Message != nil:
		p.add(f.Message)
		named = f.Message.Desc
	case f.Enum != nil:
		p.use(f.Enum)
		named = f.Enum.Desc
	default:
		return fmt.Sprintf("%#q", f.Desc.Kind())
	}
	return fmt.Sprintf("[%s](#%s)", named.Name(), anchor(named))
}

func (p *page) add(m *protogen.Message) {
	if !slices.Contains(p.messages, m) {
		p.messages = append(p.messages, m)
	}
}

func (p *page) use(e *protogen.Enum) {
	if !slices.Contains(p.used, e) {
		p.used = append(p.used, e)
	}
}

// comment writes the comment of of: paragraphs, and indented text verbatim.
func (p *page) comment(of protoreflect.Descriptor, comments protogen.Comments) {
	for _, block := range blocks(comments) {
		if strings.HasPrefix(block, "  ") {
			fmt.Fprintf(&p.out, "```text\n%s\n```\n\n", block)
		} else {
			fmt.Fprintf(&p.out, "%s\n\n", p.link(of, block))
		}
	}
}

// cell returns the comment of of for a table cell, without indentation.
func (p *page) cell(of protoreflect.Descriptor, comments protogen.Comments) string {
	return strings.ReplaceAll(p.link(of, strings.Join(blocks(comments), "<br>")), "\n", " ")
}

// reference matches [Name] in a comment.
var reference = regexp.MustCompile(`\[([A-Z][A-Za-z]+)\]`)

// link returns the text in Markdown, with a link for every [Name] of an enum in the package of of.
func (p *page) link(of protoreflect.Descriptor, text string) string {
	return reference.ReplaceAllStringFunc(escape(text), func(found string) string {
		name := strings.Trim(found, "[]")
		enum, ok := p.enums[of.ParentFile().Package().Append(protoreflect.Name(name))]
		if !ok {
			return found
		}
		p.use(enum)
		return fmt.Sprintf("[%s](#%s)", name, anchor(enum.Desc))
	})
}

// blocks returns the paragraphs and the indented texts of a comment.
func blocks(comments protogen.Comments) []string {
	var lines []string
	for line := range strings.Lines(string(comments)) {
		lines = append(lines, strings.TrimPrefix(strings.TrimRight(line, " \n"), " "))
	}
	return strings.Split(strings.Trim(strings.Join(lines, "\n"), "\n"), "\n\n")
}

// escape puts a backslash before characters that would start a tag, emphasis or the end of a cell. It keeps <br>, which cell
// inserts.
func escape(text string) string {
	escaped := strings.NewReplacer("\\", "\\\\", "*", "\\*", "<", "\\<", "|", "\\|").Replace(text)
	return strings.ReplaceAll(escaped, `\<br>`, "<br>")
}

func stream(is bool) string {
	if is {
		return "stream "
	}
	return ""
}

func anchor(d protoreflect.Descriptor) string { return strings.ToLower(string(d.Name())) }
