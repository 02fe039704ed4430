"""Charts as inline SVG, which prints, scales, can be read aloud, follows light and dark, and needs no script.

Chart libraries are larger and show nothing without a script: uPlot 1.6 (51 kB) draws pixels on a canvas, Observable
Plot 0.6 with d3 has 490 kB. Both need a script to show anything, and neither is a Python package.
"""
