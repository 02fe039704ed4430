"""Charts as inline SVG, which prints, scales, can be read aloud, follows light and dark, and needs no script.

A chart library would do less for more bytes: uPlot (50 kB) draws pixels on a canvas by script, Observable Plot needs
0.3 MB with d3, Vega and plotly 1 to 4 MB, and none of them comes as a Python package of that size.
"""
