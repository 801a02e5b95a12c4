"""Value sets: which codes mean what a model asks for. Nothing here reads a record.

Codes are matched by equality, ICD-10 by the beginning of the code; a code that stands in no set says nothing.
"""

from gateway.analysis.catalogue.evidence import LOINC, SNOMED

# Results, by LOINC.
TOTAL_CHOLESTEROL = frozenset({"2093-3"})
HDL_CHOLESTEROL = frozenset({"2085-9"})
SYSTOLIC = frozenset({"8480-6"})
CREATININE = frozenset({"2160-0", "38483-4", "14682-9"})  # serum or plasma, blood; by mass or amount
ALBUMIN_CREATININE = frozenset({"9318-7", "14959-1", "32294-1"})  # ratio in urine
RESPIRATION = frozenset({"9279-1"})
OXYGEN_SATURATION = frozenset({"59408-5", "2708-6"})  # by pulse oximetry, in arterial blood
INHALED_OXYGEN_FLOW = frozenset({"3151-8"})
INHALED_OXYGEN_SHARE = frozenset({"3150-6"})
PULSE = frozenset({"8867-4"})
TEMPERATURE = frozenset({"8310-5", "8331-1"})  # body, oral
RESPONSIVENESS = frozenset({"67775-7"})  # AVPU
SMOKING_STATUS = frozenset({"72166-2"})

# Smoking status: SNOMED CT concepts and the answers of LOINC list LL2201-3.
SMOKES_NOW = {
    SNOMED: frozenset(
        {"449868002", "428041000124106", "428071000124103", "428061000124105", "77176002", "65568007"}
    ),
    LOINC: frozenset({"LA18976-3", "LA18977-1", "LA18979-7", "LA18981-3", "LA18982-1"}),
}
SMOKES_NOT = {
    SNOMED: frozenset({"8517006", "266919005", "8392000"}),
    LOINC: frozenset({"LA15920-4", "LA18978-9"}),
}

# Type 1, type 2 or unspecified diabetes mellitus, and complications of it that records often code instead.
DIABETES = {
    SNOMED: frozenset(
        {
            "44054006", "46635009", "73211009", "313435000", "313436004", "127013003", "422034002",
            "368581000119106", "1551000119108", "1501000119109", "97331000119101", "60951000119105",
            "90781000119102", "157141000119108",
        }
    )
}  # fmt: skip
DIABETES_ICD10 = ("E10", "E11")

# Events: once they have happened they count, whether or not the record calls them over.
ASCVD = {
    SNOMED: frozenset(
        {
            "22298006", "399211009", "401303003", "401314000", "57054005", "53741008", "414545008",
            "230690007", "422504002", "275526006", "400047006", "399957001",
        }
    )
}  # fmt: skip
ASCVD_ICD10 = ("I20", "I21", "I22", "I23", "I24", "I25", "I63", "I70.2")

STROKE = {SNOMED: frozenset({"230690007", "422504002", "432504007", "413758000", "266257000", "275526006"})}
STROKE_ICD10 = ("I63", "I64", "I69.3", "I69.4", "G45.0", "G45.1", "G45.2", "G45.3", "G45.8", "G45.9", "I74")

VASCULAR = {
    SNOMED: frozenset(
        {"22298006", "399211009", "401303003", "401314000", "57054005", "399957001", "840580004", "400047006"}
    )
}
VASCULAR_ICD10 = ("I21", "I22", "I25.2", "I70", "I73.9")

HEART_FAILURE = {
    SNOMED: frozenset(
        {"84114007", "42343007", "88805009", "48447003", "85232009", "446221000", "417996009", "418304008"}
    )
}
HEART_FAILURE_ICD10 = ("I50", "I11.0", "I13.0", "I13.2")

HAEMORRHAGIC_STROKE_ICD10 = ("I60", "I61", "I62")

ATRIAL_FIBRILLATION = {
    SNOMED: frozenset({"49436004", "282825002", "440059007", "440028005", "706923002", "5370000"})
}
ATRIAL_FIBRILLATION_ICD10 = ("I48",)

HYPERTENSION = {SNOMED: frozenset({"38341003", "59621000", "10725009", "1201005", "56218007"})}
HYPERTENSION_ICD10 = ("I10", "I11", "I12", "I13", "I15")

# Antihypertensives by RxNorm ingredient, and by ATC class (loop diuretics, C03C, are left out).
ANTIHYPERTENSIVES = {
    "149": "acebutolol", "325646": "aliskiren", "17767": "amlodipine", "1202": "atenolol",
    "1091643": "azilsartan", "18867": "benazepril", "1520": "betaxolol", "19484": "bisoprolol",
    "214354": "candesartan", "1998": "captopril", "20352": "carvedilol", "2409": "chlorthalidone",
    "2599": "clonidine", "3443": "diltiazem", "49276": "doxazosin", "3827": "enalapril",
    "298869": "eplerenone", "83515": "eprosartan", "4316": "felodipine", "50166": "fosinopril",
    "40114": "guanfacine", "5470": "hydralazine", "5487": "hydrochlorothiazide", "5764": "indapamide",
    "83818": "irbesartan", "33910": "isradipine", "6185": "labetalol", "29046": "lisinopril",
    "52175": "losartan", "6876": "methyldopa", "6916": "metolazone", "6918": "metoprolol",
    "6984": "minoxidil", "30131": "moexipril", "7226": "nadolol", "31555": "nebivolol",
    "7396": "nicardipine", "7417": "nifedipine", "7435": "nisoldipine", "321064": "olmesartan",
    "54552": "perindopril", "8332": "pindolol", "8629": "prazosin", "8787": "propranolol",
    "35208": "quinapril", "35296": "ramipril", "9997": "spironolactone", "73494": "telmisartan",
    "37798": "terazosin", "38454": "trandolapril", "10763": "triamterene", "69749": "valsartan",
    "11170": "verapamil",
}  # fmt: skip
ANTIHYPERTENSIVE_ATC = ("C02", "C03A", "C03B", "C03D", "C03E", "C07", "C08", "C09")

US_CORE_RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
RACE_SYSTEM = "urn:oid:2.16.840.1.113883.6.238"
BLACK, WHITE = "2054-5", "2106-3"

# Answers to "level of responsiveness" (AVPU), LOINC list LL1078-8.
ALERT, NOT_ALERT = frozenset({"LA9340-6"}), frozenset({"LA9341-4", "LA9342-2", "LA9343-0"})
CONFUSION = {SNOMED: frozenset({"130987000", "419284004", "2776000"})}  # acute confusion, altered, delirium
