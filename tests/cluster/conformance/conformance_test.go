// Package conformance compiles the Gateway API conformance suite into one test binary that takes the suite's own flags
// and embeds its manifests.
//
// It owns what the suite does not offer: the list of its tests, tests one after the other, and shorter waits. What a test
// checks is the suite's alone.
package conformance

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

var (
	list     = flag.Bool("list", false, "print the suite's tests as JSON and run none")
	selected = flag.Bool("selected", false, "leave out tests that no report of the named profiles counts")
	patience = flag.Duration("patience", 0, "wait no longer than this for anything; 0: as long as the suite does")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *list {
		if err := json.NewEncoder(os.Stdout).Encode(planned()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestConformance runs the suite one test after the other. At v1.6.1 the suite notes a test's result when t.Run returns,
// which for a parallel test is before it has run: such a test would count as passed in the report whatever happens to it.
func TestConformance(t *testing.T) {
	for i := range tests.ConformanceTests {
		tests.ConformanceTests[i].Parallel = false
	}
	options := conformance.DefaultOptions(t)
	if *selected {
		tests.ConformanceTests = slices.DeleteFunc(tests.ConformanceTests, func(t suite.ConformanceTest) bool {
			counts := func(p suite.ConformanceProfile) bool {
				return slices.Contains(options.ConformanceProfiles, p.Name) && all(p).HasAll(t.Features...)
			}
			return !slices.ContainsFunc(profiles, counts)
		})
	}
	if *patience > 0 {
		shorten(&options.TimeoutConfig, *patience)
	}
	conformance.RunConformanceWithOptions(t, options)
}

// profiles are those for gateways.
var profiles = []suite.ConformanceProfile{
	suite.GatewayHTTPConformanceProfile, suite.GatewayGRPCConformanceProfile, suite.GatewayTLSConformanceProfile,
	suite.GatewayTCPConformanceProfile, suite.GatewayUDPConformanceProfile,
}

// all returns a profile's features.
func all(profile suite.ConformanceProfile) sets.Set[features.FeatureName] {
	return profile.CoreFeatures.Union(profile.ExtendedFeatures)
}

// shorten cuts every wait down to limit.
func shorten(waits *config.TimeoutConfig, limit time.Duration) {
	config.SetupTimeoutConfig(waits)
	fields := reflect.ValueOf(waits).Elem()
	for i := range fields.NumField() {
		if wait, ok := fields.Field(i).Interface().(time.Duration); ok && wait > limit {
			fields.Field(i).Set(reflect.ValueOf(limit))
		}
	}
}

// plan is what is known before anything runs.
type plan struct {
	// Profiles are those for gateways, with the features that naming one takes for granted.
	Profiles map[string][]features.FeatureName `json:"profiles"`
	// Tests are all of the suite's, in its order.
	Tests []test `json:"tests"`
}

type test struct {
	Name     string                 `json:"name"`
	Features []features.FeatureName `json:"features"`
	// Core and Extended name the profiles that count the test.
	Core     []string `json:"core"`
	Extended []string `json:"extended"`
	// Mesh tests need a service mesh and no Gateway.
	Mesh bool `json:"mesh"`
}

func planned() plan {
	known := plan{Profiles: map[string][]features.FeatureName{}}
	for _, profile := range profiles {
		known.Profiles[string(profile.Name)] = sets.List(profile.CoreFeatures)
	}
	mesh := features.SetsToNamesSet(features.MeshCoreFeatures, features.MeshExtendedFeatures)
	for _, t := range tests.ConformanceTests {
		one := test{
			Name: t.ShortName, Features: append([]features.FeatureName{}, t.Features...),
			Core: []string{}, Extended: []string{}, Mesh: mesh.HasAny(t.Features...),
		}
		for _, profile := range profiles {
			switch name := string(profile.Name); {
			case profile.CoreFeatures.HasAll(t.Features...):
				one.Core = append(one.Core, name)
			case all(profile).HasAll(t.Features...):
				one.Extended = append(one.Extended, name)
			}
		}
		known.Tests = append(known.Tests, one)
	}
	return known
}
