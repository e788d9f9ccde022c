package ui

import (
	"slices"
	"strconv"
	"strings"
)

// A small chart has these many units of width and height.
const (
	sparkWidth  = 120
	sparkHeight = 32
	sparkMargin = 3
)

// spark is a small chart: the points of a polyline, and where the last one is.
type spark struct {
	Points string
	X, Y   string
}

// sparkOf draws values from left to right, the least at the bottom and the greatest at the top.
func sparkOf(values []float64) spark {
	least, greatest := slices.Min(values), slices.Max(values)
	var points strings.Builder
	var s spark
	for i, value := range values {
		x, y := float64(sparkWidth-sparkMargin), float64(sparkHeight)/2
		if len(values) > 1 {
			x = sparkMargin + float64(i)*(sparkWidth-2*sparkMargin)/float64(len(values)-1)
		}
		if greatest > least {
			y = sparkMargin + (greatest-value)/(greatest-least)*(sparkHeight-2*sparkMargin)
		}
		s.X, s.Y = strconv.FormatFloat(x, 'f', 1, 64), strconv.FormatFloat(y, 'f', 1, 64)
		points.WriteString(s.X + "," + s.Y + " ")
	}
	s.Points = strings.TrimSuffix(points.String(), " ")
	return s
}

// change tells how far the last value is from the median of those before it; nil when there are fewer than three.
func change(values []float64) *float64 {
	before := slices.Sorted(slices.Values(values[:len(values)-1]))
	if len(before) < 3 {
		return nil
	}
	middle := before[len(before)/2]
	if len(before)%2 == 0 {
		middle = (before[len(before)/2-1] + middle) / 2
	}
	if middle == 0 {
		return nil
	}
	fraction := values[len(values)-1]/middle - 1
	return &fraction
}
