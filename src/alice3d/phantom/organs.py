"""Paints the average torso, from the skin inwards; later structures overwrite earlier ones."""

from __future__ import annotations

import numpy as np

from alice3d.phantom.canvas import (
    AORTA,
    ORGANS,
    STOMACH,
    TISSUE,
    VERTEBRA_CENTRES_MM,
    VERTEBRA_HEIGHTS_MM,
    Array,
    Canvas,
    Mask,
    along,
    cage,
    spine_y,
)


def paint_torso(canvas: Canvas) -> Array:
    """Paint every structure on `canvas` and return the texture (x, y, z) in HU."""
    abdomen = _torso(canvas)
    _bowel(canvas, abdomen)
    dome = _lungs(canvas)
    _upper_abdomen(canvas, dome)
    _kidneys(canvas)
    _heart_and_vessels(canvas)
    _pelvis(canvas)
    _ribs(canvas)
    _spine(canvas)
    return _texture(canvas)


def _torso(canvas: Canvas) -> Mask:
    """Skin, fat, the muscle wall and, inside it, mesentery; returns the abdominal cavity."""
    z = canvas.z
    width = along(z, (248, 96), (225, 128), (180, 152), (90, 166), (-40, 158), (-110, 162), (-180, 178), (-248, 176))
    depth = along(z, (248, 78), (225, 88), (170, 104), (90, 114), (-40, 110), (-130, 108), (-190, 112), (-248, 108))
    # A superellipse: flatter front, back and flanks than an ellipse has.
    radius = ((np.abs(canvas.x) / width) ** 2.5 + (np.abs(canvas.y) / depth) ** 2.5) ** (1 / 2.5)
    depth_below_skin = (1 - radius) * np.minimum(width, depth)
    canvas.paint(radius < 1, "skin", "body")
    canvas.paint((radius < 1) & (depth_below_skin > 3), "fat")
    wall = depth_below_skin - along(z, (248, 9), (100, 10), (-60, 14), (-200, 20), (-248, 18))
    groove = 5 * np.exp(-((canvas.x / 9) ** 2)) * (canvas.y < 0)  # the furrow over the spine
    canvas.paint((radius < 1) & (wall > groove), "muscle")
    abdomen: Mask = (wall > 13) & (canvas.y > spine_y(z) + 4) & (z < 60)
    canvas.paint(abdomen, "mesentery")
    psoas = canvas.ellipsoid((0, 0, -120), (1, 1, 1)) < 0
    for sign in (1, -1):
        across = canvas.x - sign * along(z, (-40, 24), (-140, 46), (-240, 72))
        back = canvas.y - along(z, (-40, -52), (-140, -38), (-240, 24))
        psoas |= (across**2 + back**2 < along(z, (-30, 6), (-110, 20), (-240, 18)) ** 2) & (z < -30)
    canvas.paint(psoas, "muscle")
    return abdomen


def _bowel(canvas: Canvas, abdomen: Mask) -> None:
    """Loops: shells of a random field, with gas in the middle of some; and the two limbs of the colon."""
    loops = np.abs(canvas.noise(34.0))
    low = abdomen & (canvas.z < -56) & (canvas.y > spine_y(canvas.z) + 34)
    canvas.paint(low & (loops < 0.62), "bowel")
    canvas.paint(low & (loops < 0.16) & (canvas.noise(60.0) > 0.5), "bowel_gas")
    ascending = ((104, -16, -84), (108, -14, -120), (100, -8, -150), (82, 4, -168))
    descending = ((-116, -40, -66), (-116, -34, -110), (-106, -20, -150), (-70, 0, -178), (-20, -30, -190))
    for points, radii in ((ascending, (22.0, 26.0)), (descending, (15.0, 15.0))):
        colon = canvas.tube(points, radii)
        canvas.paint(colon < 0, "bowel")
        canvas.paint((colon < -6) & (canvas.noise(22.0) > 0.1), "bowel_gas")


def _lungs(canvas: Canvas) -> Array:
    """Both lungs above the diaphragm, lateral to the mediastinum; returns the height of the diaphragm (x, y, 1) in
    mm."""
    x, y, z = canvas.x, canvas.y, canvas.z
    width, depth, radius = cage(canvas)
    inside = (1 - radius) * np.minimum(width, depth) > 8
    right = 34 - ((x - 70) / 92) ** 2 * 62 - ((y - 12) / 92) ** 2 * 74
    left = 18 - ((x + 72) / 88) ** 2 * 62 - ((y - 8) / 92) ** 2 * 74
    dome: Array = np.where(x > 0, np.maximum(right, -66), np.maximum(left, -70)).astype(np.float32)
    canvas.paint(inside & (z > dome) & (z < 232), "mesentery")  # mediastinal fat, and the cover of the lungs
    thymus = along(y, (-80, 16), (-30, 20), (10, 26), (40, 20), (80, 3))
    medial = thymus + along(z, (245, 14), (190, 6), (120, 2), (0, 8))
    near_spine = np.hypot(x, y - spine_y(z)) < 30
    lung = inside & (z > dome + 3) & (np.abs(x) > medial) & ~near_spine & (z < 226 - 3 * (np.abs(x) < 40))
    for name, side in (("lung_right", x > 0), ("lung_left", x < 0)):
        canvas.paint(lung & side, "lung", name)
    # Vessels run where two random fields vanish together, thicker towards the root of the lung.
    to_root = np.sqrt((np.abs(x) - 30) ** 2 + (y + 6) ** 2 + (z - 112) ** 2)
    lines = np.hypot(canvas.noise(40.0), canvas.noise(40.0))
    canvas.paint(lung & (lines < np.clip(0.42 - to_root / 420, 0.07, 0.4)), "lung_vessel")
    fissure = np.abs(z - (96 + 0.75 * y) + 5 * canvas.noise(90.0)) < 1.5
    canvas.paint(lung & fissure & (canvas.tissue == TISSUE["lung"]), "lung_vessel")
    trachea = ((0, -14, 245), (2, -26, 200), (2, -30, 152))
    main = (((2, -30, 152), (20, -28, 130), (40, -22, 112)), ((2, -30, 152), (-18, -26, 132), (-42, -20, 114)))
    for points, radii in ((trachea, (10.0, 9.0)), *((points, (7.0, 4.5)) for points in main)):
        airway = canvas.tube(points, radii)
        canvas.paint(airway < 2.5, "muscle", "body")
        canvas.paint(airway < 0, "airway", "body")
    return dome


def _upper_abdomen(canvas: Canvas, dome: Array) -> None:
    """Liver with vessels and gall bladder, stomach with its gas, spleen: on opposite sides, as in real anatomy."""
    x, y, z = canvas.x, canvas.y, canvas.z
    width, depth, radius = cage(canvas)
    below = (z < dome - 3) & ((1 - radius) * np.minimum(width, depth) > 7) & (np.hypot(x, y - spine_y(z)) > 30)
    edge = -104 + 0.52 * np.clip(112 - x, 0, None) - 0.12 * (y - 10)  # the lower margin rises towards the left lobe
    spleen = canvas.ellipsoid(*ORGANS["spleen"], (-0.15, -0.2))
    canvas.paint(below & (spleen < 1), "spleen", "spleen")
    stomach = canvas.tube(STOMACH, (31.0, 33.0, 29.0, 22.0, 17.0, 12.0))
    inside = (z < dome - 2) & (canvas.tissue != TISSUE["spleen"])
    canvas.paint(inside & (stomach < 0), "stomach_wall", "stomach")
    canvas.paint(inside & (stomach < -4), "stomach_content", "stomach")
    canvas.paint(inside & (stomach < -4) & (y > 38 + 4 * canvas.noise(30.0)), "stomach_gas", "stomach")
    liver = below & (canvas.ellipsoid(*ORGANS["liver"]) < 1) & (z > edge) & (stomach > 2) & (x > -62)
    canvas.paint(liver, "liver", "liver")
    to_hilum = np.sqrt((x - 34) ** 2 + (y - 0) ** 2 + (z + 34) ** 2)
    lines = np.hypot(canvas.noise(52.0), canvas.noise(52.0))
    canvas.paint(liver & (lines < np.clip(0.30 - to_hilum / 600, 0.05, 0.3)), "liver_vessel", "liver")
    gall = canvas.ellipsoid((50, 48, -66), (14, 20, 17), (0.2, -0.3))
    canvas.paint(gall < 1, "bile", "body")


def _kidneys(canvas: Canvas) -> None:
    for name, sign in (("kidney_right", 1), ("kidney_left", -1)):
        centre, axes = ORGANS[name]
        tilt = (-0.22 * sign, 0.12)  # the upper poles lean together
        kidney = canvas.ellipsoid(centre, axes, tilt)
        sinus = canvas.ellipsoid((centre[0] - sign * 15, centre[1] + 3, centre[2]), (15, 10, 24), tilt)
        capsule = (kidney < 1.22) & (canvas.label == 14)
        canvas.paint(capsule, "mesentery")
        canvas.paint((kidney < 1) & (canvas.label != 4), "renal_cortex", name)
        own = (kidney < 1) & (canvas.tissue == TISSUE["renal_cortex"])
        canvas.paint(own & (kidney < 0.72) & (canvas.noise(16.0) > -0.2), "renal_medulla", name)
        canvas.paint(own & (sinus < 1), "renal_sinus", name)


def _heart_and_vessels(canvas: Canvas) -> None:
    centre, axes = ORGANS["heart"]
    heart = canvas.ellipsoid(centre, axes, (-0.28, 0.1))
    canvas.paint((heart < 1.1) & (heart >= 1) & (canvas.z > -10), "mesentery", "body")
    canvas.paint(heart < 1, "myocardium", "heart")
    left = canvas.ellipsoid((-42, 34, 48), (25, 22, 30), (-0.3, 0.1))
    right = canvas.ellipsoid((4, 42, 56), (26, 17, 36), (-0.2, 0.1))
    atria = canvas.ellipsoid((-10, 6, 88), (34, 15, 17))
    canvas.paint((heart < 0.96) & (np.minimum(np.minimum(left, right), atria) < 1), "heart_blood", "heart")
    cava = canvas.tube(((12, 16, 108), (26, 14, 150), (22, 10, 200), (26, 12, 245)), (10.0, 9.0))
    lower = canvas.tube(((14, 4, 36), (24, -10, 0), (22, -22, -60), (14, -18, -140)), (13.0, 10.0))
    pulmonary = canvas.tube(((-20, 36, 100), (-16, 22, 126), (-30, 2, 122), (-52, -8, 112)), (13.0, 8.0))
    crossing = canvas.tube(((-16, 16, 124), (12, 2, 122), (38, -8, 112)), (10.0, 8.0))
    for vein in (cava, lower, pulmonary, crossing):
        canvas.paint((vein < 0) & (heart > 0.97), "vein", "body")
    aorta = canvas.tube(AORTA, (17.0, 16.0, 15.0, 14.0, 13.0, 12.0, 11.0, 10.0, 9.0, 8.0))
    canvas.paint((aorta < 0) & (heart > 0.9), "artery", "aorta")
    for sign in (1, -1):
        iliac = canvas.tube(
            ((-5, -12, -140), (sign * 26, -16, -172), (sign * 56, 10, -212), (sign * 66, 40, -245)), (6.0, 6.0)
        )
        canvas.paint(iliac < 0, "artery", "body")


def _pelvis(canvas: Canvas) -> None:
    x, y, z = np.abs(canvas.x), canvas.y, canvas.z
    bladder = canvas.ellipsoid(*ORGANS["bladder"])
    canvas.paint(bladder < 1.12, "muscle", "body")
    canvas.paint(bladder < 1, "urine", "bladder")
    # Iliac wings: a bent shell that opens upwards, from the sacrum to the front spine; below, sockets and heads.
    bowl = np.sqrt((x / 128) ** 2 + ((y + 14) / 84) ** 2) - along(z, (-128, 0.92), (-180, 0.84), (-230, 0.66))
    crest = -124 - 0.010 * (y + 8) ** 2
    wing = (np.abs(bowl) < 0.055) & (z < crest) & (z > -216 + 0.2 * y) & (x > 44) & (y < 46)
    core = (np.abs(bowl) < 0.028) & (z < crest - 5)
    canvas.paint(wing, "cortical_bone", "hips")
    canvas.paint(wing & core, "marrow", "hips")
    from_head = np.sqrt((x - 92) ** 2 + (y - 6) ** 2 + (z + 226) ** 2)
    canvas.paint((from_head < 33) & (x < 96), "cortical_bone", "hips")
    canvas.paint(from_head < 28, "cartilage", "hips")
    canvas.paint(from_head < 25, "cortical_bone", "hips")
    canvas.paint(from_head < 22, "marrow", "hips")


def _ribs(canvas: Canvas) -> None:
    """Twelve pairs as bands around the cage that sink from back to front; cartilage and breastbone in front."""
    x, y, z = canvas.x, canvas.y, canvas.z
    width, depth, radius = cage(canvas)
    angle = np.arctan2(np.abs(x) / width, -(y + 4) / depth) / np.pi  # 0 at the back, 1 in front
    drop = 62 * np.clip(angle - 0.06, 0, None) ** 0.9 * along(z, (245, 0.6), (150, 1.0), (0, 1.25))
    off_cage = (radius - 1) * np.minimum(width, depth)
    ends = np.array([0.90, 0.88, 0.86, 0.84, 0.82, 0.80, 0.78, 0.74, 0.68, 0.62, 0.48, 0.36], np.float32)
    unrolled = z + drop
    bone, cartilage = np.zeros(canvas.shape, bool), np.zeros(canvas.shape, bool)
    near = (np.abs(off_cage) < 6) & (angle > 0.05)
    for number, height in enumerate(VERTEBRA_CENTRES_MM[:12]):
        band = near & ((off_cage / 4.6) ** 2 + ((unrolled - height) / 6.2) ** 2 < 1)
        bone |= band & (angle < ends[number])
        cartilage |= band & (angle >= ends[number]) & (number < 10) & (angle < 0.985)
    canvas.paint(cartilage, "cartilage", "body")
    canvas.paint(bone, "cortical_bone", "ribs")
    core = np.zeros(canvas.shape, bool)
    for height in VERTEBRA_CENTRES_MM[:12]:
        core |= (off_cage / 2.4) ** 2 + ((unrolled - height) / 3.6) ** 2 < 1
    canvas.paint(bone & core, "marrow", "ribs")
    front = np.abs(y - (depth - 4)) < 5
    sternum = front & (np.abs(x) < along(z, (205, 20), (170, 14), (70, 17), (40, 8))) & (z > 44) & (z < 202)
    canvas.paint(sternum, "marrow", "body")


def _spine(canvas: Canvas) -> None:
    """Vertebral bodies with end plates and discs between them, arches, spinous processes, canal, sacrum."""
    x, z = canvas.x, canvas.z
    back = canvas.y - spine_y(z)
    half_width = along(z, (245, 13), (0, 20), (-170, 26), (-248, 30))
    half_depth = along(z, (245, 10), (0, 15), (-170, 18), (-248, 14))
    column = np.sqrt((x / half_width) ** 2 + (back / half_depth) ** 2)
    behind = back + half_depth + 9
    canal = np.hypot(x / 10, behind / 8.5)
    covered = canvas.tissue > TISSUE["fat"]
    canvas.paint((np.hypot(x, back) < 36) & (canvas.label == 14) & (back < 4), "muscle")
    canvas.paint((column < 1) & (z > -172), "disc", "body")
    for height, thick in zip(VERTEBRA_CENTRES_MM, VERTEBRA_HEIGHTS_MM, strict=True):
        dz = np.abs(z - height)
        body = (column < 1) & (dz < thick / 2 - 3)
        canvas.paint(body, "cortical_bone", "vertebrae")
        canvas.paint(body & (column < 0.87) & (dz < thick / 2 - 5), "marrow", "vertebrae")
        arch = (canal < 1.6) & (canal >= 1) & (dz < thick * 0.34) & (column >= 1)
        process = (np.abs(x) < 4) & (behind < -6) & (behind > -30) & (np.abs(z - height - 0.35 * behind) < thick * 0.27)
        wing = (np.abs(behind + 3) < 5) & (np.abs(x) < half_width + 16) & (canal > 1) & (dz < thick * 0.2)
        canvas.paint((arch | process | wing) & covered, "cortical_bone", "vertebrae")
    sacrum = (z < -174) & (z > -244) & (np.abs(x) < along(z, (-174, 46), (-244, 16))) & (np.abs(back) < half_depth)
    canvas.paint(sacrum, "cortical_bone", "vertebrae")
    inner = (np.abs(x) < along(z, (-174, 42), (-244, 12))) & (np.abs(back) < half_depth - 3)
    canvas.paint(sacrum & inner, "marrow", "vertebrae")
    canvas.paint((canal < 1) & (column >= 1) & (z > -190), "spinal_canal", "body")


def _texture(canvas: Canvas) -> Array:
    """Texture of each tissue, HU: it lets a matcher distinguish positions within an organ."""
    fine, medium = canvas.noise(9.0), canvas.noise(20.0)
    grain = np.zeros(64, np.float32)
    streak = np.zeros(64, np.float32)
    amplitudes = {
        "liver": (7, 6), "spleen": (6, 8), "muscle": (12, 10), "mesentery": (22, 20), "fat": (8, 8), "lung": (30, 35),
        "marrow": (70, 50), "cortical_bone": (90, 60), "myocardium": (8, 8), "bowel": (25, 25), "renal_cortex": (12, 8),
        "stomach_content": (15, 25), "cartilage": (20, 20), "heart_blood": (4, 6), "disc": (10, 10),
    }  # fmt: skip
    for name, (a, b) in amplitudes.items():
        grain[TISSUE[name]], streak[TISSUE[name]] = a, b
    out: Array = grain[canvas.tissue] * fine + streak[canvas.tissue] * medium
    return out
