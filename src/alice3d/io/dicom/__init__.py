"""DICOM: files sorted into series, slices stacked by position, SEG and RTSTRUCT as label maps."""
