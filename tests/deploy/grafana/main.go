// Reads the dashboards that it is given as strictly as Grafana's published schema allows, of which the Foundation SDK's types are
// generated. Prints `FILE: path: what` for each thing that Grafana would not know, and ends with 1 if there is one. Where the schema
// lists the words that a field may have, as for drawStyle, the SDK takes any word.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// What the SDK says of a field that it wants and does not find.
const missing = "required field is missing from input"

// Stricter than Grafana: an option that is missing, but for those in a list, has the plugin's default; a variable without a current value gets
// its first, as after an export by Grafana itself; an override has one option by its nature.
var filledIn = regexp.MustCompile(`\.panels\[\d+\]\.(options|fieldConfig\.defaults\.custom)(\.\w+)+$` +
	`|\.templating\.list\[\d+\]\.current\.(text|value)$` +
	`|\.properties\[\d+\]\.custom\.\w+$`)

// What the SDK reads leniently or not at all is read once more from here.
type panel struct {
	Type        string            `json:"type"`
	Panels      []json.RawMessage `json:"panels"`
	FieldConfig json.RawMessage   `json:"fieldConfig"`
	Targets     []struct {
		Datasource struct {
			Type string `json:"type"`
		} `json:"datasource"`
	} `json:"targets"`
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: grafana-schema FILE...")
		os.Exit(2)
	}
	// All that the dashboards use: each kind costs seconds of building.
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(table.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	status := 0
	for _, name := range os.Args[1:] {
		for _, finding := range file(name) {
			fmt.Printf("%s: %s: %s\n", name, finding.Path, finding.Message)
			status = 1
		}
	}
	os.Exit(status)
}

func file(name string) cog.BuildErrors {
	text, err := os.ReadFile(name)
	if err != nil {
		return findings("file", err)
	}
	var strict, read dashboard.Dashboard
	found := findings("dashboard", strict.UnmarshalJSONStrict(text))
	var raw struct {
		Panels []json.RawMessage `json:"panels"`
	}
	if json.Unmarshal(text, &raw) == nil {
		found = append(found, panels("dashboard", raw.Panels)...)
	}
	if len(found) > 0 {
		return found
	}
	// What was read strictly has no panels: the SDK takes their empty lists of errors for errors, and leaves them out.
	if err := json.Unmarshal(text, &read); err != nil {
		return findings("dashboard", err)
	}
	return findings("dashboard", read.Validate())
}

// What the SDK passes over in panels, in those of a row too.
func panels(path string, all []json.RawMessage) (found cog.BuildErrors) {
	add := func(path string, err error) { found = append(found, findings(path, err)...) }
	for i, raw := range all {
		path := fmt.Sprintf("%s.panels[%d]", path, i)
		var panel panel
		if err := json.Unmarshal(raw, &panel); err != nil {
			add(path, err)
			continue
		}
		if panel.Type == "row" {
			found = append(found, panels(path, panel.Panels)...)
			continue
		}
		plugin, known := cog.ConfigForPanelcfgVariant(panel.Type)
		if !known {
			add(path+".type", fmt.Errorf("the schema of %q is not registered", panel.Type))
			continue
		}
		for i, target := range panel.Targets {
			if target.Datasource.Type != prometheus.VariantConfig().Identifier {
				add(fmt.Sprintf("%s.targets[%d].datasource.type", path, i), fmt.Errorf("the schema of %q is not registered", target.Datasource.Type))
			}
		}
		if panel.FieldConfig != nil {
			found = append(found, fieldConfig(path+".fieldConfig", panel.FieldConfig, plugin.StrictFieldConfigUnmarshaler)...)
		}
	}
	return found
}

// The plugin's own fields, `custom`, the SDK reads strictly in the defaults, and not in the overrides.
func fieldConfig(path string, raw json.RawMessage, custom func([]byte) (any, error)) cog.BuildErrors {
	var config dashboard.FieldConfigSource
	found := findings(path, config.UnmarshalJSONStrict(raw))
	if custom == nil && config.Defaults.Custom != nil {
		found = append(found, findings(path+".defaults.custom", fmt.Errorf("a panel of this kind has none"))...)
	}
	for i, override := range config.Overrides {
		for j, property := range override.Properties {
			path := fmt.Sprintf("%s.overrides[%d].properties[%d]", path, i, j)
			name, isCustom := strings.CutPrefix(property.Id, "custom.")
			field, err := json.Marshal(map[string]any{name: property.Value})
			switch {
			case err != nil:
			case !isCustom:
				err = new(dashboard.FieldConfig).UnmarshalJSONStrict(field)
			case custom == nil:
				err = fmt.Errorf("a panel of this kind has no %s", property.Id)
			default:
				path += ".custom"
				_, err = custom(field)
			}
			found = append(found, findings(path, err)...)
		}
	}
	return found
}

// The errors in an error, below a path, without what Grafana fills in.
func findings(path string, err error) (found cog.BuildErrors) {
	if err == nil {
		return nil
	}
	for _, one := range cog.MakeBuildErrors(path, err) {
		if one.Message != missing || !filledIn.MatchString(one.Path) {
			found = append(found, one)
		}
	}
	return found
}
