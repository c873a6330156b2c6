Creator "by hand"
# a multigraph with doubled labels and keys
graph [
  directed 0
  multigraph 1
  label "Doubled &amp; more"
  Note "runs over
two lines"
  node [
    id 0
    label "San Jos&#233;"
    Latitude 9.9333
    Longitude -84.0833
    graphics [ x 1.0 y 2.0 ]
  ]
  node [
    id 1
    label "None"
    hyperedge 1
  ]
  node [
    id 2
    label "None"
    Latitude 8.9936
    Longitude -79.5197
    label "a second label"
  ]
  edge [ source 0 target 1 LinkSpeed "10" LinkSpeedUnits "M" ]
  edge [ source 0 target 1 LinkSpeed "< 2.5" LinkSpeedUnits "G" ]
  edge [ source 0 target 2 key 0 ]
  edge [ source 2 target 0 key 1 ]
]
